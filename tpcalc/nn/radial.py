"""Radial functions: a Bessel basis under a cutoff, and the network that makes path weights."""

from __future__ import annotations

import math

import torch

from tpcalc.nn.cutoff import PolynomialCutoff

# 1 / sqrt(E[silu(z)^2]) for z ~ N(0, 1), by Gauss-Hermite quadrature
SILU_NORM = 1.676532470331092


class BesselBasis(torch.nn.Module):
    """sqrt(2/rc) sin(n pi r / rc) / r times a polynomial cutoff: [E] -> [E, num_basis].

    `prefactor` "mace" gives sqrt(2/rc), "nequip" gives 2/rc; an `envelope` replaces the
    polynomial cutoff. Source: Gasteiger et al. 2020.
    """

    def __init__(self, cutoff: float, num_basis: int = 8, cutoff_p: float = 6.0,
                 prefactor: str = "nequip", envelope: torch.nn.Module | None = None):  # fmt: skip
        super().__init__()
        self.num_basis = num_basis
        frequencies = torch.arange(1, num_basis + 1, dtype=torch.float64) * math.pi / cutoff
        self.frequencies = torch.nn.Parameter(frequencies, requires_grad=False)
        self.prefactor = 2.0 / cutoff if prefactor == "nequip" else math.sqrt(2.0 / cutoff)
        self.cutoff = envelope or PolynomialCutoff(cutoff, cutoff_p)

    def forward(self, edge_lengths: torch.Tensor) -> torch.Tensor:
        r = edge_lengths.unsqueeze(1)  # [E, 1]
        envelope = self.cutoff(edge_lengths).unsqueeze(1) * self.prefactor
        return torch.sin(r * self.frequencies) * (envelope / r)


class RadialMLP(torch.nn.Module):
    """Bias-free network [E, num_basis] -> [E, weight_numel]; zero input gives zero output.

    Without biases the path weights vanish with the cutoff. Activations are SiLU with unit
    second moment, weights are divided by sqrt(fan-in).
    """

    def __init__(self, num_basis: int, hidden: list[int], weight_numel: int):
        super().__init__()
        sizes = [num_basis, *hidden, weight_numel]
        self.layers = torch.nn.ModuleList(
            ScaledLinear(n, m, silu=i < len(sizes) - 2)
            for i, (n, m) in enumerate(zip(sizes[:-1], sizes[1:]))
        )

    def forward(self, edge_feats: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            edge_feats = layer(edge_feats)
        return edge_feats


class ScaledLinear(torch.nn.Module):
    """x W / sqrt(fan-in), then optionally a SiLU with unit second moment: [*, n] -> [*, m]."""

    def __init__(self, num_in: int, num_out: int, silu: bool):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(num_in, num_out, dtype=torch.float64))
        self.scale = 1.0 / math.sqrt(num_in)
        self.silu = silu
        self.norm = SILU_NORM

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.matmul(x, self.weight * self.scale)
        if self.silu:
            x = torch.nn.functional.silu(x) * self.norm
        return x
