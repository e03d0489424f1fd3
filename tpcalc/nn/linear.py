"""Equivariant linear layers: channels mix within each irrep."""

from __future__ import annotations

import math

import torch
from e3nn.o3 import Irreps

from tpcalc.errors import InputError


def _shared_blocks(irreps_in: Irreps, irreps_out: Irreps) -> list[tuple[int, int, int, int]]:
    """(first column in, components, channels in, channels out) for each output irrep.

    Raises:
        InputError: an output irrep is absent from the input, or irreps repeat.
    """
    for irreps in (irreps_in, irreps_out):
        if len({ir for _, ir in irreps}) != len(irreps):
            raise InputError(f"irreps {irreps} repeat an irrep; write each once")
    blocks = []
    for mul_out, ir in irreps_out:
        for (mul_in, ir_in), where in zip(irreps_in, irreps_in.slices()):
            if ir_in == ir:
                blocks.append((where.start, ir.dim, mul_in, mul_out))
    if len(blocks) != len(irreps_out):
        raise InputError(f"a linear layer cannot make {irreps_out} from {irreps_in}")
    return blocks


class Linear(torch.nn.Module):
    """One matrix per irrep: [N, irreps_in] -> [N, irreps_out], scaled by 1/sqrt(fan-in)."""

    def __init__(self, irreps_in: Irreps, irreps_out: Irreps):
        super().__init__()
        self.blocks = _shared_blocks(irreps_in, irreps_out)
        parts = [torch.randn(i * o, dtype=torch.float64) / math.sqrt(i) for *_, i, o in self.blocks]
        self.weight = torch.nn.Parameter(torch.cat(parts))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n = x.shape[0]
        parts: list[torch.Tensor] = []
        offset = 0
        for start, dim, mul_in, mul_out in self.blocks:
            w = self.weight[offset : offset + mul_in * mul_out].view(mul_in, mul_out)
            offset += mul_in * mul_out
            block = x[:, start : start + dim * mul_in].reshape(n * dim, mul_in)
            parts.append(block.matmul(w).view(n, dim * mul_out))
        return torch.cat(parts, 1) if len(parts) > 1 else parts[0]


class SpeciesLinear(torch.nn.Module):
    """One matrix per irrep and species: the self-connection of NequIP, [N, in] -> [N, out].

    The same map as a fully connected product with one-hot species (scaled by 1/sqrt(fan-in)
    of the channels), as one matrix product over species x channels.
    """

    def __init__(self, irreps_in: Irreps, irreps_out: Irreps, num_species: int):
        super().__init__()
        self.blocks = _shared_blocks(irreps_in, irreps_out)
        self.num_species = num_species
        parts = [
            torch.randn(num_species * i * o, dtype=torch.float64) / math.sqrt(i)
            for *_, i, o in self.blocks
        ]
        self.weight = torch.nn.Parameter(torch.cat(parts))

    def forward(self, x: torch.Tensor, one_hot: torch.Tensor) -> torch.Tensor:
        """`one_hot` [N, num_species] in the dtype of `x`."""
        n, s = x.shape[0], self.num_species
        parts: list[torch.Tensor] = []
        offset = 0
        for start, dim, mul_in, mul_out in self.blocks:
            w = self.weight[offset : offset + s * mul_in * mul_out].view(s * mul_in, mul_out)
            offset += s * mul_in * mul_out
            block = x[:, start : start + dim * mul_in].reshape(n, dim, 1, mul_in)
            block = block * one_hot.view(n, 1, s, 1)  # [N, dim, species, mul_in]
            parts.append(block.reshape(n * dim, s * mul_in).matmul(w).view(n, dim * mul_out))
        return torch.cat(parts, 1) if len(parts) > 1 else parts[0]
