"""The Gaunt product by the C++ op of `cg/fused`."""

from __future__ import annotations

import torch

from tpcalc.o3.gaunt import gaunt
from tpcalc.tensor_products.fused import (
    Coupling,
    FusedProduct,
    add_table,
    block_columns,
    require_one_channel,
)
from tpcalc.tensor_products.gaunt.reference import GauntReference


class GauntFused(FusedProduct, GauntReference):
    """The even paths with weights w1(l1) w2(l2) w3(l3), summed into shared output blocks.

    The factors are multiplied first (and summed over terms), one weight a path and channel;
    more terms therefore cost almost nothing. CPU; needs a one-channel second operand.
    """

    def __init__(self, irreps_in1, irreps_in2, irreps_out=None, terms: int = 1):
        super().__init__(irreps_in1, irreps_in2, irreps_out, terms)
        require_one_channel(self, "gaunt/fused", "gaunt/grid")
        n1, n2 = self.sizes[0], self.sizes[1]
        blocks = torch.tensor([[p.in1, n1 + p.in2, n1 + n2 + p.out] for p in self.paths])
        each_term = torch.arange(self.terms).view(-1, 1, 1) * sum(self.sizes)
        add_table(self, self._rows(), blocks + each_term)
        for n in range(3):
            self.register_buffer(f"path{n + 1}", blocks[:, n], persistent=False)
        self.out_dim: int = self.irreps_out.dim

    @torch.jit.unused
    def _rows(self) -> list[Coupling]:
        h_blocks, out_blocks = block_columns(self.irreps_in1), block_columns(self.irreps_out)
        y_blocks, mul = block_columns(self.irreps_in2), self.mul
        return [
            Coupling(gaunt(p.l1, p.l2, p.l3),
                     list(range(y_blocks[p.in2].start, y_blocks[p.in2].start + 2 * p.l2 + 1)),
                     mul, h_blocks[p.in1].start, mul, n * mul, out_blocks[p.out].start, mul)
            for n, p in enumerate(self.paths)
        ]  # fmt: skip

    def op_weights(self, w: torch.Tensor) -> torch.Tensor:
        """[E, weight_numel] -> [E, paths x mul]."""
        if w.device.type == "cpu":
            return torch.ops.tpcalc.weight_products(w, self.op_factors, self.mul)
        w = w.unflatten(-1, [self.terms, sum(self.sizes), self.mul])
        product = w.index_select(2, self.path1) * w.index_select(2, self.path2)
        product = product * w.index_select(2, self.path3)  # [E, terms, paths, mul]
        return product.sum(1).flatten(1)
