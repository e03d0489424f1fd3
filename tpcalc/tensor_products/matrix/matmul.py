"""The matrix product as it is: build matrices, multiply, project."""

from __future__ import annotations

import math

import torch
from e3nn.o3 import wigner_3j

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
        self.register_buffer("make1", make1, persistent=False)  # [comp1, n1 size^2]
        self.register_buffer("make2", make2, persistent=False)
        take3 = torch.cat(take, 1).T * math.sqrt(self.size)  # [products size^2, comp3]
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
        size = self.size
        f = x.transpose(-1, -2).matmul(self.make1.to(x.dtype))  # [..., mul, n1 size^2]
        g = y.transpose(-1, -2).matmul(self.make2.to(x.dtype))
        f = f.unflatten(-1, [self.n1, size, size]).index_select(-3, self.first)
        g = g.unflatten(-1, [self.n2, size, size]).index_select(-3, self.second)
        z = f.matmul(g).flatten(-3)  # [..., mul, products size^2]
        return z.matmul(self.take3.to(x.dtype)).transpose(-1, -2)
