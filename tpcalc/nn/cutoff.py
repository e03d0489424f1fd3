"""Smooth cutoff of the radial functions."""

from __future__ import annotations

import torch


class PolynomialCutoff(torch.nn.Module):
    """Falls from 1 at r = 0 to 0 at the cutoff: [E] -> [E].

    f(x) = 1 - (p+1)(p+2)/2 x^p + p(p+2) x^(p+1) - p(p+1)/2 x^(p+2), x = r / cutoff; value,
    first and second derivative vanish at x = 1, so energies are C^2. Source: Gasteiger et al.
    2020 (DimeNet), eq. 8.
    """

    def __init__(self, cutoff: float, p: float = 6.0):
        super().__init__()
        self.cutoff = float(cutoff)
        self.p = float(p)

    def forward(self, edge_lengths: torch.Tensor) -> torch.Tensor:
        x = edge_lengths / self.cutoff
        p = self.p
        envelope = 1.0 - x.pow(p) * (
            (p + 1.0) * (p + 2.0) / 2.0 - p * (p + 2.0) * x + p * (p + 1.0) / 2.0 * x * x
        )
        return torch.where(x < 1.0, envelope, torch.zeros_like(x))
