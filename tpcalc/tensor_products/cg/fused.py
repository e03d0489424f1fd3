"""Clebsch-Gordan product by a C++ op over all edges at once."""

from __future__ import annotations

import torch

from tpcalc.kernels.ops import ops_available
from tpcalc.tensor_products.base import Convolution
from tpcalc.tensor_products.cg.reference import CgReference
from tpcalc.tensor_products.fused import (
    Coupling,
    FusedConvolution,
    add_table,
    block_columns,
    flatten_leading,
    require_one_channel,
)


class CgFused(CgReference):
    """M_ik = sum_j C_ijk y_j from the non-zeros, then z_k = w sum_i M_ik x_i, summed in registers.

    The convolution reads each input once and writes each output once; first and second
    derivatives are ops as well. Any multiplicities. CPU; needs a one-channel second operand.
    """

    devices = ("cpu",)
    requires = ("g++", "apt-get install g++")

    def __init__(self, irreps_in1, irreps_in2, irreps_out=None):
        super().__init__(irreps_in1, irreps_in2, irreps_out)
        require_one_channel(self, "cg/fused", "cg/sparse")
        add_table(self, self._rows())
        self.out_dim: int = self.irreps_out.dim

    @classmethod
    def available(cls) -> bool:
        return ops_available()

    @torch.jit.unused
    def _rows(self) -> list[Coupling]:
        """One row a path, in canonical order."""
        h_blocks, out_blocks = block_columns(self.irreps_in1), block_columns(self.irreps_out)
        rows, c_start, w_start = [], 0, 0
        for p, (_, y0, d1, d2, d3, mul, _) in zip(self.paths, self.rows):
            c = self.couplings[c_start : c_start + d1 * d2 * d3].view(d1, d2, d3)
            h, out = h_blocks[p.in1], out_blocks[p.out]
            rows.append(Coupling(c, list(range(y0, y0 + d2)), mul, h.start, h.mul, w_start,
                                 out.start + p.offset_out, out.mul))  # fmt: skip
            c_start += d1 * d2 * d3
            w_start += mul
        return rows

    def convolve(
        self,
        node_feats: torch.Tensor,
        y: torch.Tensor,
        w: torch.Tensor,
        senders: torch.Tensor,
        receivers: torch.Tensor,
        n: int,
    ) -> torch.Tensor:
        """[N, in1], [E, in2], [E, weight_numel] -> [n, out]."""
        return torch.ops.tpcalc.conv(
            node_feats, y, w, senders, receivers,
            self.op_paths, self.op_couplings, self.op_coef, n, self.out_dim,
        )  # fmt: skip

    def forward(self, x: torch.Tensor, y: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        x, y, w, shape = flatten_leading(x, y, w)
        each = torch.arange(x.shape[0], device=x.device)  # every pair is its own receiver
        return self.convolve(x, y, w, each, each, x.shape[0]).view(shape + [self.out_dim])

    def convolution(self) -> Convolution:
        return FusedConvolution(self)
