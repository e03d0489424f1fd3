"""Nodes and weights on the sphere that integrate polynomials exactly."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.integrate import lebedev_rule

from tpcalc.errors import InputError

# degree 13 (74 nodes) has a negative weight of -0.37; degree 15 takes its place
_LEBEDEV_DEGREES = (3, 5, 7, 9, 11, 15, 17, 19, 21, 23, 25, 27, 29, 31, 35, 41, 47, 53, 59, 65)


def gauss_fourier_size(degree: int) -> tuple[int, int]:
    """Smallest (n_beta, n_alpha) of the product grid that is exact up to `degree`."""
    return degree // 2 + 1, degree + 1


def gauss_fourier(n_beta: int, n_alpha: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Gauss-Legendre in cos(beta) x uniform in alpha: nodes [n, 3] and weights [n], float64.

    Polar axis y (e3nn). Weights sum to 4 pi. Exact up to degree
    min(2 n_beta - 1, n_alpha - 1).
    """
    cos_beta, w_beta = np.polynomial.legendre.leggauss(n_beta)
    alpha = 2 * math.pi * (np.arange(n_alpha) + 0.5) / n_alpha
    sin_beta = np.sqrt(1 - cos_beta**2)
    x = sin_beta[:, None] * np.sin(alpha)
    y = np.broadcast_to(cos_beta[:, None], x.shape)
    z = sin_beta[:, None] * np.cos(alpha)
    weights = np.broadcast_to(w_beta[:, None] * (2 * math.pi / n_alpha), x.shape)
    nodes = np.stack([x, y, z], -1).reshape(-1, 3)
    return torch.from_numpy(nodes), torch.from_numpy(weights.reshape(-1).copy())


def lebedev(degree: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Lebedev rule exact up to `degree`: nodes [n, 3] and weights [n], sum 4 pi, float64.

    Raises:
        InputError: no rule of that degree (largest 65).
    """
    for rule in _LEBEDEV_DEGREES:
        if rule >= degree:
            nodes, weights = lebedev_rule(rule)
            return torch.from_numpy(nodes.T.copy()), torch.from_numpy(np.array(weights))
    raise InputError(f"no Lebedev rule of degree {degree}; use nodes='gauss'")
