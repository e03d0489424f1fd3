"""Real spherical harmonics in e3nn's basis, component normalisation."""

from __future__ import annotations

import math

import torch
from e3nn.o3 import wigner_3j


class SphericalHarmonics(torch.nn.Module):
    """Y_lm(r / |r|) for l = 0..lmax: [E, 3] -> [E, (lmax + 1)^2], sum_m Y_lm^2 = 2l + 1.

    By recursion over the degree, Y_l = k_l C^{l-1,1,l} Y_{l-1} Y_1, one matrix product a
    degree: exact to round-off, differentiable to any order, no limit on lmax. Edges of zero
    length give Y_0 only (they carry no direction). `as_op`: as one compiled op
    (`tpcalc.kernels.ops.use_ops`).
    """

    __constants__ = ["as_op"]  # TorchScript drops branches not taken

    def __init__(self, lmax: int):
        super().__init__()
        self.as_op = False
        self.lmax = lmax
        pole = torch.tensor([0.0, math.sqrt(3.0), 0.0], dtype=torch.float64)
        previous = pole
        steps = []
        for l in range(2, lmax + 1):
            coupling = wigner_3j(l - 1, 1, l, dtype=torch.float64)  # [2l-1, 3, 2l+1]
            value = torch.einsum("i,j,ijk->k", previous, pole, coupling)
            scale = math.sqrt(2 * l + 1) / value[l]  # Y_l(pole) = sqrt(2l+1) at m = 0, sign +
            steps.append((coupling * scale).reshape(-1, 2 * l + 1))
            previous = value * scale
        self.register_buffer("_packed", _pack(steps), persistent=False)

    def forward(self, edge_vectors: torch.Tensor) -> torch.Tensor:
        if self.as_op:  # noqa: SIM102
            if not edge_vectors.is_cuda:
                table = self._packed.to(edge_vectors.dtype)
                return torch.ops.tpcalc.harmonics(edge_vectors, table, self.lmax)
        length2 = (edge_vectors * edge_vectors).sum(1, keepdim=True)
        safe = torch.where(length2 > 0, length2, torch.ones_like(length2))
        y1 = edge_vectors * (1.7320508075688772 * safe.rsqrt())  # [E, 3]
        parts = [torch.ones_like(length2)]
        if self.lmax > 0:
            parts.append(y1)
        table = self._packed.to(edge_vectors.dtype)
        y, start = y1, 0
        for l in range(2, self.lmax + 1):
            rows, columns = 3 * (2 * l - 1), 2 * l + 1
            step = table[start : start + rows * columns].view(rows, columns)
            start += rows * columns
            y = (y.unsqueeze(2) * y1.unsqueeze(1)).flatten(1).matmul(step)  # [E, 2l+1]
            parts.append(y)
        return torch.cat(parts, 1)


def _pack(steps: list[torch.Tensor]) -> torch.Tensor:
    if not steps:
        return torch.zeros(0, dtype=torch.float64)
    return torch.cat([s.reshape(-1) for s in steps])
