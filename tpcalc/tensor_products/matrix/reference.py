"""The matrix product of tensor operators, by its 6j coefficients."""

from __future__ import annotations

import math

import torch

from tpcalc.o3.recoupling import six_j
from tpcalc.tensor_products.factored import FactoredProduct, Label


class MatrixReference(FactoredProduct):
    """Features as (2h+1) x (2h+1) matrices, multiplied as matrices, taken apart again.

    K = sqrt(2h+1) sqrt((2l1+1)(2l2+1)(2l3+1)) (-1)^l3 {l1 l2 l3; h h h}, h = ceil(lmax / 2):
    every path, even and odd, with factored weights; a scalar y = 1 leaves x as it is. Strictly
    O(3): even and odd entries make matrices of their own, and each output has one weight for
    products whose first factor is even and one for those where it is odd (e3x's four products
    eee, ooe, eoo, oeo). Weight columns, per term: in1 entries, in2 entries, then out entries
    (first factor even, odd, where it occurs), each x channels. Source: Unke and Maennel 2024
    (e3x, FusedTensor).
    """

    function = "matrix"

    @torch.jit.unused
    def labels(self, operand: int) -> list[Label]:
        lists = [self.entries(n) for n in range(3)]
        self.half = (max(irreps.lmax for irreps in lists) + 1) // 2  # h
        if operand < 2:
            return [Label(n, ir.l, ir.p, "") for n, (_, ir) in enumerate(lists[operand])]
        parities = [{ir.p for _, ir in irreps} for irreps in lists[:2]]
        return [
            Label(n, ir.l, ir.p, first)
            for n, (_, ir) in enumerate(lists[2])
            for first in (1, -1)
            if first in parities[0] and ir.p * first in parities[1]
        ]

    @torch.jit.unused
    def coefficient(self, a: Label, b: Label, c: Label) -> float:
        if a.p != c.tag:
            return 0.0
        h = self.half
        scale = math.sqrt((2 * h + 1) * (2 * a.l + 1) * (2 * b.l + 1) * (2 * c.l + 1))
        return scale * (-1) ** c.l * six_j(a.l, b.l, c.l, h, h, h)
