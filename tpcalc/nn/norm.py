"""Normalisation of node features that keeps them equivariant."""

from __future__ import annotations

import torch
from e3nn.o3 import Irreps


class RmsNorm(torch.nn.Module):
    """[N, irreps] -> [N, irreps]: one invariant size per node divides all of its features.

    x w / sqrt(s + 1e-12), s = sum over blocks of sum(x^2) / ((2l+1)^2 B), B the number of
    blocks, one weight w a channel. As Nequix computes it (channels are summed, the degree
    enters squared). Source: EquiformerV2, Liao et al. 2024; Koker et al. 2025 (Nequix).
    """

    def __init__(self, irreps: Irreps):
        super().__init__()
        self.weight = torch.nn.Parameter(
            torch.ones(sum(mul for mul, _ in irreps), dtype=torch.float64)
        )
        shares, channel, first = [], [], 0
        for mul, ir in irreps:
            share = 1.0 / (ir.dim**2 * len(irreps))
            shares.append(torch.full((mul * ir.dim,), share, dtype=torch.float64))
            channel.append(torch.arange(first, first + mul).repeat(ir.dim))
            first += mul
        self.register_buffer("shares", torch.cat(shares), persistent=False)  # [dim]
        self.register_buffer("channel", torch.cat(channel), persistent=False)  # [dim]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        size = (x * x).matmul(self.shares.to(x.dtype)) + 1e-12  # [N]
        return x * self.weight.index_select(0, self.channel) * size.rsqrt().unsqueeze(1)
