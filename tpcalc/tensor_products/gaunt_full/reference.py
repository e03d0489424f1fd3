"""The Gaunt product completed by the Poisson bracket, by coefficients."""

from __future__ import annotations

import math

import torch

from tpcalc.o3.gaunt import three_j_000
from tpcalc.o3.recoupling import three_j
from tpcalc.tensor_products.factored import FactoredProduct, Label


class GauntFullReference(FactoredProduct):
    """Product f g and Poisson bracket r^.(grad f x grad g), by coefficients: every path.

    The pointwise product of two functions on the sphere holds exactly the even paths, their
    bracket exactly the odd ones; each half has factored weights of its own.
    K = sqrt((2l1+1)(2l2+1)(2l3+1) / 4 pi) |3j(l1 l2 l3; 0 0 0)| and
    K = sqrt((2l1+1)(2l2+1)(2l3+1) l1(l1+1) l2(l2+1) / 4 pi) (-1)^((l1+l2+l3+1)/2)
    3j(l1 l2 l3; 1 -1 0). Weight columns, per term: in1, in2 and out entries, each first for the
    product and (degree >= 1) then for the bracket, each x channels. Sources: Luo et al. 2024;
    Bochkarev, Lysogorskiy and Drautz 2026 for the bracket.
    """

    function = "gaunt_full"

    @torch.jit.unused
    def labels(self, operand: int) -> list[Label]:
        return [
            Label(n, ir.l, ir.p, tag)
            for n, (_, ir) in enumerate(self.entries(operand))
            for tag in ("product", "bracket")
            if tag == "product" or ir.l > 0
        ]

    @torch.jit.unused
    def coefficient(self, a: Label, b: Label, c: Label) -> float:
        if a.tag != c.tag or b.tag != c.tag:
            return 0.0
        l1, l2, l3 = a.l, b.l, c.l
        scale = math.sqrt((2 * l1 + 1) * (2 * l2 + 1) * (2 * l3 + 1) / (4 * math.pi))
        if c.tag == "product":
            return scale * three_j_000(l1, l2, l3)
        if (l1 + l2 + l3) % 2 == 0:
            return 0.0
        scale *= math.sqrt(l1 * (l1 + 1) * l2 * (l2 + 1)) * (-1) ** ((l1 + l2 + l3 + 1) // 2)
        return scale * three_j(l1, l2, l3, 1, -1, 0)
