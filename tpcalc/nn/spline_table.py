"""Functions of a length as tables of cubic B-splines."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch

from tpcalc.errors import InputError


class SplineTable(NamedTuple):
    """Uniform cubic B-splines on [0, cutoff]; zero beyond.

    `coef` [intervals + 3, columns] float64; `error` and `slope_error` are the largest
    deviations of value and first derivative, relative to the largest of each.
    """

    coef: torch.Tensor
    step: float
    error: float
    slope_error: float


def spline_values(table: SplineTable, r: torch.Tensor, order: int = 0) -> torch.Tensor:
    """The spline or a derivative at `r` [n], in plain PyTorch: [n, columns], float64."""
    u = r / table.step
    inside = (u >= 0) & (u < table.coef.shape[0] - 3)
    first = u.floor().clamp(0, table.coef.shape[0] - 4).long()
    t = u - first
    matrix = torch.tensor(  # B-splines by powers of t
        [[1, 4, 1, 0], [-3, 0, 3, 0], [3, -6, 3, 0], [-1, 3, -3, 1]], dtype=torch.float64
    ) / 6.0  # fmt: skip
    for _ in range(order):
        matrix = matrix[1:] * torch.arange(1, len(matrix))[:, None] / table.step
    powers = torch.stack([t**n for n in range(len(matrix))], 1)
    weights = (powers @ matrix) * inside[:, None]  # [n, 4]
    return sum(weights[:, q, None] * table.coef[first + q] for q in range(4))


def fit_splines(
    function: Callable[[torch.Tensor], torch.Tensor], cutoff: float, tolerance: float = 1e-6,
    intervals: int = 64, most: int = 2048,
) -> SplineTable:  # fmt: skip
    """Splines through `function` (lengths [n] -> [n, columns], float64, flat at the cutoff).

    The number of intervals grows from `intervals` until the largest error, between the
    knots, is `tolerance` of the largest value.

    Raises:
        InputError: `most` intervals are not enough.
    """
    while True:
        step = cutoff / intervals
        knots = torch.arange(intervals + 1, dtype=torch.float64) * step
        knots[0] = 1e-5 * cutoff  # sin(x) / x
        values = function(knots)
        system = torch.zeros(intervals + 3, intervals + 3, dtype=torch.float64)
        rows = torch.arange(intervals + 1)
        for shift, weight in enumerate((1 / 6, 4 / 6, 1 / 6)):
            system[rows + 1, rows + shift] = weight
        slopes = torch.zeros(2, values.shape[1], dtype=torch.float64)
        slopes[0] = _derivative(function, torch.tensor([1e-3 * cutoff], dtype=torch.float64))[0]
        system[0, [0, 2]] = torch.tensor([-0.5 / step, 0.5 / step], dtype=torch.float64)
        system[-1, [-3, -1]] = torch.tensor([-0.5 / step, 0.5 / step], dtype=torch.float64)
        coef = torch.linalg.solve(system, torch.cat([slopes[:1], values, slopes[1:]]))
        table = _with_errors(function, coef, step, cutoff)
        if table.error <= tolerance:
            return table
        growth = 1.05 * (table.error / tolerance) ** 0.25  # the error falls as step^4
        intervals = math.ceil(intervals * min(growth, 2.0))
        if intervals > most:
            raise InputError(
                f"{most} spline intervals leave an error of {table.error:.1e} of the radial "
                f"functions, tolerance {tolerance:.1e}; allow more error or keep the network"
            )


def _derivative(function: Callable, r: torch.Tensor) -> torch.Tensor:
    """Central differences, fourth order."""
    h = 1e-4
    return (8 * (function(r + h) - function(r - h)) - function(r + 2 * h) + function(r - 2 * h)) / (
        12 * h
    )


def _with_errors(function: Callable, coef: torch.Tensor, step: float, cutoff: float) -> SplineTable:
    """Compare at four points an interval, from a tenth of the cutoff (no pair is closer)."""
    table = SplineTable(coef, step, 0.0, 0.0)
    r = torch.linspace(0.1, 0.999, 4 * len(coef), dtype=torch.float64) * cutoff
    exact, slope = function(r), _derivative(function, r)
    error = (spline_values(table, r) - exact).abs().max() / exact.abs().max()
    slope_error = (spline_values(table, r, 1) - slope).abs().max() / slope.abs().max()
    return SplineTable(coef, step, float(error), float(slope_error))
