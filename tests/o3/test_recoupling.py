"""3j, 6j and 9j against sympy's, and against contractions of e3nn's wigner_3j."""

import itertools

import pytest
import torch
from e3nn.o3 import wigner_3j
from sympy.physics import wigner as sympy_wigner
from tpcalc.o3.recoupling import nine_j, six_j, three_j


def test_three_j_against_sympy():
    for l1, l2, l3 in itertools.product(range(4), repeat=3):
        for m1, m2 in ((0, 0), (1, -1), (1, 0), (-2, 1)):
            if abs(m1) <= l1 and abs(m2) <= l2 and abs(m1 + m2) <= l3:
                expected = float(sympy_wigner.wigner_3j(l1, l2, l3, m1, m2, -m1 - m2))
                assert three_j(l1, l2, l3, m1, m2, -m1 - m2) == pytest.approx(expected, abs=1e-14)
    assert three_j(1, 1, 3, 0, 0, 0) == 0
    assert three_j(1, 1, 1, 2, -1, -1) == 0


def test_six_j_against_sympy():
    for a, b, c in itertools.product(range(5), repeat=3):
        for h in (1, 2, 3):
            if abs(a - b) <= c <= a + b:
                inside = max(a, b, c) <= 2 * h
                expected = float(sympy_wigner.wigner_6j(a, b, c, h, h, h)) if inside else 0
                assert six_j(a, b, c, h, h, h) == pytest.approx(expected, abs=1e-14)


@pytest.mark.parametrize(
    "rows",
    [((1, 1, 2), (1, 1, 1), (2, 1, 2)), ((2, 3, 3), (1, 1, 1), (2, 2, 3)),
     ((1, 1, 0), (1, 1, 1), (1, 1, 1)), ((4, 3, 3), (1, 1, 1), (3, 2, 4))],
)  # fmt: skip
def test_nine_j_against_sympy(rows):
    expected = float(sympy_wigner.wigner_9j(*itertools.chain(*rows)))
    assert nine_j(rows) == pytest.approx(expected, abs=1e-14)


def test_six_j_is_the_trace_of_three_operators():
    h = 2
    t = [wigner_3j(h, h, l, dtype=torch.float64) for l in range(5)]
    for a, b, c in itertools.product(range(5), repeat=3):
        if abs(a - b) <= c <= a + b:
            w = wigner_3j(a, b, c, dtype=torch.float64)
            trace = torch.einsum("ija,jkb,ikc,abc->", t[a], t[b], t[c], w)
            assert float(trace) == pytest.approx((-1) ** c * six_j(a, b, c, h, h, h), abs=1e-13)
