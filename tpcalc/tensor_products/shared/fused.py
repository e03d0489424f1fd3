"""Path-weight sharing by the C++ op of `cg/fused`, with one row per pair of irreps."""

from __future__ import annotations

import torch

from tpcalc.tensor_products.fused import (
    Coupling,
    FusedProduct,
    add_table,
    block_columns,
    require_one_channel,
)
from tpcalc.tensor_products.shared.reference import SharedReference


class SharedFused(FusedProduct, SharedReference):
    """All paths between two irreps are one matrix A_ki = sum_j M_ijk y_j, made in the kernel.

    One weight and one output block serve all of them, so nothing but the inputs and the summed
    output touches memory. CPU; needs a one-channel second operand.
    """

    def __init__(self, irreps_in1, irreps_in2, irreps_out=None):
        super().__init__(irreps_in1, irreps_in2, irreps_out)
        require_one_channel(self, "shared/fused", "shared/reference")
        add_table(self, self._rows())
        self.out_dim: int = self.irreps_out.dim

    @torch.jit.unused
    def _rows(self) -> list[Coupling]:
        rows, y_columns, mul = [], list(range(self.d2)), self.mul
        out_blocks, i = block_columns(self.irreps_out), 0
        for h, (_, ir1) in zip(block_columns(self.irreps_in1), self.irreps_in1):
            k = 0
            for out, (_, ir3) in zip(out_blocks, self.irreps_out):
                c = self.coupling[i : i + ir1.dim, :, k : k + ir3.dim]
                if c.any():
                    rows.append(Coupling(c, y_columns, mul, h.start, mul, 0, out.start, mul))
                k += ir3.dim
            i += ir1.dim
        return rows
