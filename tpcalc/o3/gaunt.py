"""Gaunt coefficients: integrals of three real spherical harmonics over the sphere."""

from __future__ import annotations

import math

import torch
from e3nn.o3 import wigner_3j
from scipy.special import factorial


def three_j_000(l1: int, l2: int, l3: int) -> float:
    """|3j(l1 l2 l3; 0 0 0)|, closed form (Edmonds 1957, eq. 3.7.17); 0 for odd sums."""
    total = l1 + l2 + l3
    if total % 2 or l3 < abs(l1 - l2) or l3 > l1 + l2:
        return 0.0
    g = total // 2
    f = [factorial(n, exact=True) for n in range(total + 2)]
    delta = math.sqrt(f[total - 2 * l1] * f[total - 2 * l2] * f[total - 2 * l3] / f[total + 1])
    return delta * f[g] / (f[g - l1] * f[g - l2] * f[g - l3])


def gaunt(l1: int, l2: int, l3: int) -> torch.Tensor:
    """G = int Y_l1 Y_l2 Y_l3 dOmega, orthonormal Y in e3nn's basis: [2l1+1, 2l2+1, 2l3+1].

    G = sqrt((2l1+1)(2l2+1)(2l3+1) / 4 pi) |3j(l1 l2 l3; 000)| wigner_3j, float64; zero for
    odd l1 + l2 + l3 and outside the triangle.
    """
    if not abs(l1 - l2) <= l3 <= l1 + l2:
        return torch.zeros(2 * l1 + 1, 2 * l2 + 1, 2 * l3 + 1, dtype=torch.float64)
    scale = math.sqrt((2 * l1 + 1) * (2 * l2 + 1) * (2 * l3 + 1) / (4 * math.pi))
    return wigner_3j(l1, l2, l3, dtype=torch.float64) * (scale * three_j_000(l1, l2, l3))
