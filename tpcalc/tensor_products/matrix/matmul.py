"""The matrix product as it is: build matrices, multiply, project."""

from __future__ import annotations

import math

import torch
from e3nn.o3 import wigner_3j

from tpcalc.tensor_products.apply import apply_table
from tpcalc.tensor_products.factored import Label
from tpcalc.tensor_products.matrix.reference import MatrixReference


class MatrixMatmul(MatrixReference):
    """Build the matrices, multiply them, project.

    X = sum_l sqrt(2l+1) C^{h h l} x_l, Z = X Y, z_l = <sqrt((2l+1)(2h+1)) C^{h h l}, Z>.
    Up to four products, even and odd matrices apart. Source: e3x's FusedTensor.
    """

    @torch.jit.unused
    def _make_tables(self) -> None:
        self.size = 2 * self.half + 1
        one, two, out = self.labels_of_operands
        firsts = [p for p in (1, -1) if any(a.p == p for a in one)]
        seconds = [p for p in (1, -1) if any(b.p == p for b in two)]
        self.n1, self.n2 = len(firsts), len(seconds)
        # which matrix of x and of y each of the products takes
        pairs = [(i, j) for i in range(self.n1) for j in range(self.n2)]
        self.register_buffer("first", torch.tensor([i for i, _ in pairs]), persistent=False)
        self.register_buffer("second", torch.tensor([j for _, j in pairs]), persistent=False)
        make1 = torch.cat([self._table(one, lambda a, p=p: a.p == p) for p in firsts], 1)
        make2 = torch.cat([self._table(two, lambda a, p=p: a.p == p) for p in seconds], 1)
        take = []
        for i, j in pairs:
            p1, p3 = firsts[i], firsts[i] * seconds[j]
            take.append(self._table(out, lambda c, p1=p1, p3=p3: c.tag == p1 and c.p == p3))
        self.register_buffer("make1", make1.T.contiguous(), persistent=False)  # [n1 size^2, comp1]
        self.register_buffer("make2", make2.T.contiguous(), persistent=False)
        take3 = torch.cat(take, 1) * math.sqrt(self.size)  # [comp3, products size^2]
        self.register_buffer("take3", take3.contiguous(), persistent=False)

    @torch.jit.unused
    def _table(self, labels: list[Label], keep) -> torch.Tensor:
        """[components of the labels, size^2], zero for the labels that do not belong."""
        h = self.half
        parts = []
        for a in labels:
            block = wigner_3j(h, h, a.l, dtype=torch.float64) * math.sqrt(2 * a.l + 1)
            parts.append(block.permute(2, 0, 1).flatten(1) * float(keep(a)))
        return torch.cat(parts)

    def weighted_product(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        size = [self.size, self.size]
        f = apply_table(self.make1.to(x.dtype), x).unflatten(-2, [self.n1] + size)
        g = apply_table(self.make2.to(x.dtype), y).unflatten(-2, [self.n2] + size)
        f = f.index_select(-4, self.first)  # [..., products, size, size, mul]
        g = g.index_select(-4, self.second)
        z = self.multiply(f, g).flatten(-4, -2)  # [..., products size^2, mul]
        return apply_table(self.take3.to(x.dtype), z)

    def multiply(self, f: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
        """Matrices [..., size, size, mul], channel by channel; channels stay innermost, since
        one small product a channel is slow."""
        if f.shape[-1] == 1 and g.shape[-1] == 1:
            return f.squeeze(-1).matmul(g.squeeze(-1)).unsqueeze(-1)
        columns, rows = f.unbind(-2), g.unbind(-3)  # [..., size, mul] each
        z = columns[0].unsqueeze(-2) * rows[0].unsqueeze(-3)
        for column, row in zip(columns[1:], rows[1:]):
            z = z + column.unsqueeze(-2) * row.unsqueeze(-3)
        return z
