"""Wigner 3j, 6j and 9j symbols of whole degrees, by Racah's sums in exact integers."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import cache

_f = math.factorial


def triangle(a: int, b: int, c: int) -> bool:
    """|a - b| <= c <= a + b."""
    return abs(a - b) <= c <= a + b


def _delta(a: int, b: int, c: int) -> Fraction:
    return Fraction(_f(a + b - c) * _f(a - b + c) * _f(b + c - a), _f(a + b + c + 1))


@cache
def three_j(l1: int, l2: int, l3: int, m1: int, m2: int, m3: int) -> float:
    """(l1 l2 l3; m1 m2 m3), Condon-Shortley phases (Edmonds 1957, eq. 3.6.10)."""
    if m1 + m2 + m3 or not triangle(l1, l2, l3):
        return 0.0
    if any(abs(m) > l for l, m in ((l1, m1), (l2, m2), (l3, m3))):
        return 0.0
    total = Fraction(0)
    for k in range(max(0, l2 - l3 - m1, l1 - l3 + m2), min(l1 + l2 - l3, l1 - m1, l2 + m2) + 1):
        down = _f(k) * _f(l1 + l2 - l3 - k) * _f(l1 - m1 - k) * _f(l2 + m2 - k)
        total += Fraction((-1) ** k, down * _f(l3 - l2 + m1 + k) * _f(l3 - l1 - m2 + k))
    square = _delta(l1, l2, l3)
    for l, m in ((l1, m1), (l2, m2), (l3, m3)):
        square *= _f(l + m) * _f(l - m)
    return (-1) ** (l1 - l2 - m3) * float(total) * math.sqrt(square)


@cache
def six_j(a: int, b: int, c: int, d: int, e: int, f: int) -> float:
    """{a b c; d e f} (Edmonds 1957, eq. 6.3.7)."""
    triads = ((a, b, c), (a, e, f), (d, b, f), (d, e, c))
    if not all(triangle(*t) for t in triads):
        return 0.0
    squares = ((a + b + d + e), (b + c + e + f), (c + a + f + d))
    total = Fraction(0)
    for t in range(max(sum(x) for x in triads), min(squares) + 1):
        down = 1
        for x in triads:
            down *= _f(t - sum(x))
        for s in squares:
            down *= _f(s - t)
        total += Fraction((-1) ** t * _f(t + 1), down)
    square = Fraction(1)
    for x in triads:
        square *= _delta(*x)
    return float(total) * math.sqrt(square)


@cache
def nine_j(rows: tuple[tuple[int, int, int], ...]) -> float:
    """{rows of three degrees}, a sum over products of 6j (Edmonds 1957, eq. 6.4.3)."""
    (a, b, c), (d, e, f), (g, h, i) = rows
    total = 0.0
    for x in range(max(abs(a - i), abs(d - h), abs(b - f)), min(a + i, d + h, b + f) + 1):
        product = six_j(a, b, c, f, i, x) * six_j(d, e, f, b, x, h) * six_j(g, h, i, x, a, d)
        total += (2 * x + 1) * product
    return total
