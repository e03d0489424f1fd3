"""Clebsch-Gordan product by a C++ op over all edges at once."""

from __future__ import annotations

import torch

from tpcalc.tensor_products.cg.reference import CgReference
from tpcalc.tensor_products.fused import (
    Coupling,
    FusedProduct,
    add_table,
    block_columns,
    require_one_channel,
)


class CgFused(FusedProduct, CgReference):
    """M_ik = sum_j C_ijk y_j from the non-zeros, then z_k = w sum_i M_ik x_i, summed in registers.

    The convolution reads each input once and writes each output once; first and second
    derivatives are ops as well. Any multiplicities. CPU; needs a one-channel second operand.
    """

    def __init__(self, irreps_in1, irreps_in2, irreps_out=None):
        super().__init__(irreps_in1, irreps_in2, irreps_out)
        require_one_channel(self, "cg/fused", "cg/sparse")
        add_table(self, self._rows())
        self.out_dim: int = self.irreps_out.dim

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
