"""Smooth cutoff of the radial functions."""

from __future__ import annotations

import torch

from tpcalc.errors import InputError


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
        self.break_at = None  # Å: no jump of the second derivative inside
        self.operands = [1.0, self.cutoff, self.p]  # of the op `bessel`

    def forward(self, edge_lengths: torch.Tensor) -> torch.Tensor:
        x = edge_lengths / self.cutoff
        p = self.p
        envelope = 1.0 - x.pow(p) * (
            (p + 1.0) * (p + 2.0) / 2.0 - p * (p + 2.0) * x + p * (p + 1.0) / 2.0 * x * x
        )
        return torch.where(x < 1.0, envelope, torch.zeros_like(x))


class XplorCutoff(torch.nn.Module):
    """1 up to `onset`, then falls to 0 at the cutoff, with one continuous derivative: [E] -> [E].

    f = (rc^2 - r^2)^2 (rc^2 + 2 r^2 - 3 ro^2) / (rc^2 - ro^2)^3. Source: HOOMD-blue's "xplor"
    smoothing, which SevenNet-0 was trained with; forces are continuous, their slope is not.

    Raises:
        InputError: the onset is not inside the cutoff.
    """

    def __init__(self, cutoff: float, onset: float):
        super().__init__()
        if not 0 <= onset < cutoff:
            raise InputError(f"cutoff_onset {onset} Å must lie in [0, cutoff = {cutoff} Å)")
        self.cutoff = float(cutoff)
        self.onset = float(onset)
        self.break_at = self.onset or None
        self.operands = [2.0, self.cutoff, self.onset]  # of the op `bessel`

    def forward(self, edge_lengths: torch.Tensor) -> torch.Tensor:
        r2, on2, off2 = edge_lengths * edge_lengths, self.onset**2, self.cutoff**2
        fall = (off2 - r2) * (off2 - r2) * (off2 + 2.0 * r2 - 3.0 * on2) / (off2 - on2) ** 3
        fall = torch.where(edge_lengths < self.onset, torch.ones_like(r2), fall)
        return torch.where(edge_lengths < self.cutoff, fall, torch.zeros_like(r2))
