"""Clebsch-Gordan product, written to be read."""

from __future__ import annotations

import torch

from tpcalc.tensor_products.base import TensorProduct
from tpcalc.tensor_products.paths import as_irreps, coupling_tables, enumerate_paths


class CgReference(TensorProduct):
    """z^p_k = w_p sqrt(2 l3 + 1) sum_ij C^{l1 l2 l3}_ijk x_i y_j, one dense einsum a path.

    The general equivariant bilinear map, channel by channel ("uvu" or "uuu" in e3nn, whose
    component normalisation it has). Weights: one column per path and channel, paths in
    canonical order. Source: Xie et al. 2025, eq. of the CGTP; e3nn `o3.TensorProduct`.
    """

    function = "cg"

    def __init__(self, irreps_in1, irreps_in2, irreps_out=None):
        super().__init__(irreps_in1, irreps_in2)
        irreps_out = None if irreps_out is None else as_irreps(irreps_out)
        self.paths, self.irreps_out = enumerate_paths(self.irreps_in1, self.irreps_in2, irreps_out)
        self.weight_numel = sum(path.mul for path in self.paths)
        self.uvu = self.channel_mode == "uvu"
        x_slices, y_slices = self.irreps_in1.slices(), self.irreps_in2.slices()
        # per path: first column in x, y; 2l+1 three times; channels; output block
        self.rows: list[list[int]] = [
            [x_slices[p.in1].start, y_slices[p.in2].start, 2 * p.l1 + 1, 2 * p.l2 + 1,
             2 * p.l3 + 1, p.mul, p.out]
            for p in self.paths
        ]  # fmt: skip
        tables = coupling_tables(self.paths)
        self.register_buffer(
            "couplings", torch.cat([t.reshape(-1) for t in tables]), persistent=False
        )

    def forward(self, x: torch.Tensor, y: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        couplings = self.couplings.to(x.dtype)
        c_start, w_start, block = 0, 0, 0
        blocks: list[torch.Tensor] = []  # finished output irreps
        parts: list[torch.Tensor] = []  # paths of the current one
        for x0, y0, d1, d2, d3, mul, out in self.rows:
            if out != block:
                blocks.append(torch.cat(parts, -1).flatten(-2))
                parts, block = [], out
            xp = x[..., x0 : x0 + d1 * mul].unflatten(-1, [d1, mul])  # [..., d1, mul]
            wp = w[..., w_start : w_start + mul]  # [..., mul]
            c = couplings[c_start : c_start + d1 * d2 * d3].view(d1, d2, d3)
            if self.uvu:
                z = torch.einsum("...iu,...j,ijk,...u->...ku", xp, y[..., y0 : y0 + d2], c, wp)
            else:
                yp = y[..., y0 : y0 + d2 * mul].unflatten(-1, [d2, mul])
                z = torch.einsum("...iu,...ju,ijk,...u->...ku", xp, yp, c, wp)
            parts.append(z)  # [..., d3, mul]
            c_start += d1 * d2 * d3
            w_start += mul
        blocks.append(torch.cat(parts, -1).flatten(-2))
        return torch.cat(blocks, -1)
