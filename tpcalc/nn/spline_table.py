"""Functions of a length as tables of cubic B-splines."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import torch

from tpcalc.errors import InputError

SLOPES = 10.0  # the tolerance of slopes over that of values: forces are made of slopes
# the same with a break: knots are not spent on it any more, and go into forces
SLOPES_WITH_BREAK = 5.0
KNOT = 1e-9  # intervals: closer is at a knot


class SplineTable(NamedTuple):
    """Uniform cubic B-splines on [0, cutoff]; zero beyond.

    `coef` [intervals + 3, columns] float64; `error` and `slope_error` are the largest
    deviations of value and first derivative, relative to the largest of each. With `break_at`
    (Å) `coef` is [2, intervals + 3, columns]: before the break, and from it on.
    """

    coef: torch.Tensor
    step: float
    error: float
    slope_error: float
    break_at: float | None = None


def spline_values(table: SplineTable, r: torch.Tensor, order: int = 0) -> torch.Tensor:
    """The spline or a derivative at `r` [n], in plain PyTorch: [n, columns], float64."""
    u = r / table.step
    intervals = table.coef.shape[-2] - 3
    inside = (u >= 0) & (u < intervals)
    first = u.floor().clamp(0, intervals - 1).long()
    weights = _weights(u - first, table.step, order) * inside[:, None]
    if table.break_at is None:
        return sum(weights[:, q, None] * table.coef[first + q] for q in range(4))
    piece = (r >= table.break_at).long()
    return sum(weights[:, q, None] * table.coef[piece, first + q] for q in range(4))


def _weights(t: torch.Tensor, step: float, order: int = 0) -> torch.Tensor:
    """The four B-splines, or a derivative, at `t` [n] of an interval: [n, 4]."""
    matrix = torch.tensor(  # B-splines by powers of t
        [[1, 4, 1, 0], [-3, 0, 3, 0], [3, -6, 3, 0], [-1, 3, -3, 1]], dtype=torch.float64
    ) / 6.0  # fmt: skip
    for _ in range(order):
        matrix = matrix[1:] * torch.arange(1, len(matrix))[:, None] / step
    return torch.stack([t**n for n in range(len(matrix))], 1) @ matrix


def fit_splines(
    function: Callable[[torch.Tensor], torch.Tensor], cutoff: float, tolerance: float = 1e-6,
    intervals: int = 64, most: int = 2048, break_at: float | None = None,
) -> SplineTable:  # fmt: skip
    """Splines through `function` (lengths [n] -> [n, columns], float64, flat at the cutoff).

    The number of intervals grows from `intervals` until the largest error, between the knots, is
    `tolerance` of the largest value, and that of the slope `SLOPES` (with a break
    `SLOPES_WITH_BREAK`) times as much of the largest slope. Where the second derivative of
    `function` jumps, at `break_at`, two splines meet, both with its value and slope there.

    Raises:
        InputError: `most` intervals are not enough.
    """
    slope_tolerance = tolerance * (SLOPES if break_at is None else SLOPES_WITH_BREAK)
    while True:
        intervals = _intervals(intervals, None if break_at is None else break_at / cutoff)
        if intervals > most:
            break
        step = cutoff / intervals
        if break_at is None:
            coef = _interpolate(function, cutoff, intervals, 0.0, cutoff)
        else:
            pieces = ((0.0, break_at), (break_at, cutoff))
            coef = torch.stack([_interpolate(function, cutoff, intervals, *p) for p in pieces])
        table = _with_errors(function, SplineTable(coef, step, 0.0, 0.0, break_at), cutoff)
        # the errors fall as step^4 and step^3
        growth = max((table.error / tolerance) ** 0.25,
                     (table.slope_error / slope_tolerance) ** (1 / 3))  # fmt: skip
        if growth <= 1:
            return table
        intervals = math.ceil(intervals * min(1.05 * growth, 2.0))
    raise InputError(
        f"{most} spline intervals leave an error of the radial functions above {tolerance:.1e}, or "
        f"of their slopes above {slope_tolerance:.1e}; allow more error or keep the network"
    )


def _intervals(at_least: int, share: float | None) -> int:
    """A number of intervals for which `share` of them ends at a knot, or well between two (an end
    close to a knot would be the same condition twice)."""

    def fits(intervals: int) -> bool:
        part = intervals * share % 1.0
        at_knot = min(part, 1 - part) < KNOT and round(intervals * share) > 0
        return 0.3 <= part <= 0.7 or at_knot

    return at_least if share is None else next(filter(fits, itertools.count(at_least)))


def _interpolate(function: Callable, cutoff: float, intervals: int, start: float,
                 end: float) -> torch.Tensor:  # fmt: skip
    """Coefficients [intervals + 3, columns] of the spline on [start, end], zero outside: values
    at the ends and at the knots between, slopes at the ends (0 at the cutoff)."""
    step = cutoff / intervals
    first, last = math.floor(start / step + KNOT), math.ceil(end / step - KNOT)
    u = torch.arange(first, last + 1, dtype=torch.float64)
    u[0], u[-1] = start / step, end / step
    values = function((u * step).clamp(min=1e-5 * cutoff))  # sin(x) / x
    slopes = torch.stack([_slope(function, start, cutoff), _slope(function, end, cutoff)])
    at = torch.cat([u[:1], u, u[-1:]])
    interval = at.floor().clamp(first, last - 1)
    weights = _weights(at - interval, step)
    weights[[0, -1]] = _weights((at - interval)[[0, -1]], step, 1)
    columns = (interval - first).long()[:, None] + torch.arange(4)
    system = torch.zeros(len(at), len(at), dtype=torch.float64).scatter_(1, columns, weights)
    coef = torch.zeros(intervals + 3, values.shape[1], dtype=torch.float64)
    coef[first : last + 3] = torch.linalg.solve(system, torch.cat([slopes[:1], values, slopes[1:]]))
    return coef


def _slope(function: Callable, at: float, cutoff: float) -> torch.Tensor:
    """The slope [columns] at an end: from below, where the second derivative may jump."""
    if at == cutoff:
        return torch.zeros_like(function(torch.tensor([0.5 * at], dtype=torch.float64))[0])
    if at == 0:
        return _derivative(function, torch.tensor([1e-3 * cutoff], dtype=torch.float64))[0]
    h = 1e-4
    points = at - h * torch.arange(5, dtype=torch.float64)
    parts = torch.tensor([25, -48, 36, -16, 3], dtype=torch.float64) / (12 * h)
    return parts @ function(points)


def _derivative(function: Callable, r: torch.Tensor) -> torch.Tensor:
    """Central differences, fourth order."""
    h = 1e-4
    return (8 * (function(r + h) - function(r - h)) - function(r + 2 * h) + function(r - 2 * h)) / (
        12 * h
    )


def _with_errors(function: Callable, table: SplineTable, cutoff: float) -> SplineTable:
    """Compare at four points an interval, from a tenth of the cutoff (no pair is closer)."""
    points = 4 * table.coef.shape[-2]
    r = torch.linspace(0.1, 0.999, points, dtype=torch.float64) * cutoff
    if table.break_at is not None:  # differences would cross it
        r = r[(r - table.break_at).abs() > 1e-3]
    largest = torch.zeros(4, dtype=torch.float64)  # of errors and values, of slopes the same
    for part in r.split(256):  # memory: some ten arrays [points, columns]
        exact, slope = function(part), _derivative(function, part)
        errors = spline_values(table, part) - exact, spline_values(table, part, 1) - slope
        found = [x.abs().max() for x in (errors[0], exact, errors[1], slope)]
        largest = torch.maximum(largest, torch.stack(found))
    error, value, slope_error, slope = largest.tolist()
    return table._replace(error=error / value, slope_error=slope_error / slope)
