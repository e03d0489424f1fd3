"""Spherical harmonics as 2D Fourier series on the torus, and the way back. Tables only."""

from __future__ import annotations

import math

import numpy as np
import torch

from tpcalc.o3.harmonics import SphericalHarmonics


def orthonormal_harmonics(lmax: int, points: torch.Tensor) -> torch.Tensor:
    """[n, 3] -> [n, (lmax+1)^2], orthonormal on the sphere, float64."""
    return SphericalHarmonics(lmax)(points) / math.sqrt(4 * math.pi)


def _points(beta: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
    """[n_beta, n_alpha, 3], polar axis y; beta beyond pi continues along the great circle."""
    sin, cos = torch.sin(beta)[:, None], torch.cos(beta)[:, None]
    x, z = sin * torch.sin(alpha), sin * torch.cos(alpha)
    return torch.stack([x, cos.expand_as(x), z], -1)


def _angles(n: int) -> torch.Tensor:
    return 2 * math.pi * torch.arange(n, dtype=torch.float64) / n


def fourier_coefficients(lmax: int) -> torch.Tensor:
    """c with Y_k(beta, alpha) = sum_uv c[k, u, v] e^{i(u beta + v alpha)}, |u|, |v| <= lmax.

    Exact: continued to beta in [0, 2 pi), Y is a trigonometric polynomial of degree lmax in
    both angles, so 2 lmax + 1 samples an axis determine it. [(lmax+1)^2, 2lmax+1, 2lmax+1],
    complex128, index u + lmax.
    """
    n = 2 * lmax + 1
    points = _points(_angles(n), _angles(n))
    samples = orthonormal_harmonics(lmax, points.reshape(-1, 3)).T.reshape(-1, n, n)
    return torch.fft.fftshift(torch.fft.fft2(samples) / n**2, dim=(1, 2))


def back_projection(lmax: int, degree: int) -> torch.Tensor:
    """b[k, u, v] = integral over the sphere of e^{i(u beta + v alpha)} Y_k, |u|, |v| <= degree.

    Gauss-Legendre in beta (not in cos beta: e^{iu beta} alone is no polynomial of it) with
    enough nodes for round-off; alpha by an exact sum. [(lmax+1)^2, 2degree+1, 2degree+1].
    """
    nodes, weights = np.polynomial.legendre.leggauss(2 * (degree + lmax) + 40)
    beta = torch.from_numpy((nodes + 1) * (math.pi / 2))
    weights = torch.from_numpy(weights * (math.pi / 2))
    n_alpha = degree + lmax + 1
    alpha = _angles(n_alpha)
    harmonics = orthonormal_harmonics(lmax, _points(beta, alpha).reshape(-1, 3))
    harmonics = harmonics.reshape(len(beta), n_alpha, -1).to(torch.complex128)
    u = torch.arange(-degree, degree + 1, dtype=torch.float64)
    wave_beta = torch.polar((torch.sin(beta) * weights).expand(len(u), -1), u[:, None] * beta)
    wave_alpha = torch.polar(torch.full((len(u), n_alpha), 2 * math.pi / n_alpha,
                                        dtype=torch.float64), u[:, None] * alpha)  # fmt: skip
    return torch.einsum("ub,va,bak->kuv", wave_beta, wave_alpha, harmonics)
