"""Path-weight sharing by the C++ op of `cg/fused`, with one row per pair of irreps."""

from __future__ import annotations

import torch

from tpcalc.kernels.ops import ops_available
from tpcalc.tensor_products.base import Convolution
from tpcalc.tensor_products.fused import (
    Coupling,
    FusedConvolution,
    add_table,
    block_columns,
    flatten_leading,
    require_one_channel,
)
from tpcalc.tensor_products.shared.reference import SharedReference


class SharedFused(SharedReference):
    """All paths between two irreps are one matrix A_ki = sum_j M_ijk y_j, made in the kernel.

    One weight and one output block serve all of them, so nothing but the inputs and the summed
    output touches memory. CPU; needs a one-channel second operand.
    """

    devices = ("cpu",)
    requires = ("g++", "apt-get install g++")

    def __init__(self, irreps_in1, irreps_in2, irreps_out=None):
        super().__init__(irreps_in1, irreps_in2, irreps_out)
        require_one_channel(self, "shared/fused", "shared/reference")
        add_table(self, self._rows())
        self.out_dim: int = self.irreps_out.dim

    @classmethod
    def available(cls) -> bool:
        return ops_available()

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

    def convolve(
        self,
        node_feats: torch.Tensor,
        y: torch.Tensor,
        w: torch.Tensor,
        senders: torch.Tensor,
        receivers: torch.Tensor,
        n: int,
    ) -> torch.Tensor:
        """[N, in1], [E, in2], [E, mul] -> [n, out]."""
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
