"""The product of vector spherical harmonics, by its 9j coefficients."""

from __future__ import annotations

import math

import torch

from tpcalc.o3.gaunt import three_j_000
from tpcalc.o3.recoupling import nine_j
from tpcalc.tensor_products.factored import FactoredProduct, Label


class VectorReference(FactoredProduct):
    """Vector fields on the sphere, multiplied by the cross product at each point, by 9j.

    A feature of degree j makes fields Y_{j l}, l = j-1, j, j+1, each with its weight;
    K = sqrt(6 (2j1+1)(2j2+1)(2j3+1)) sqrt((2l1+1)(2l2+1)(2l3+1) / 4 pi) |3j(l1 l2 l3; 0 0 0)|
    {l1 l2 l3; 1 1 1; j1 j2 j3}. Every path occurs but 0 x 0 -> 0, which is added as the plain
    product of scalars. Weight columns, per term: in1, in2, out entries, each for l = j-1, j, j+1
    (degree 0: the plain product, then l = 1), each x channels. Source: Xie et al. 2026 (VSTP),
    reconstructed: the weights of the paper's code are not public.
    """

    function = "vector"

    @torch.jit.unused
    def labels(self, operand: int) -> list[Label]:
        found = []
        for n, (_, ir) in enumerate(self.entries(operand)):
            orbital = (-1, 1) if ir.l == 0 else (ir.l - 1, ir.l, ir.l + 1)
            found += [Label(n, ir.l, ir.p, l) for l in orbital]  # tag: l, -1 for plain scalars
        return found

    @torch.jit.unused
    def coefficient(self, a: Label, b: Label, c: Label) -> float:
        tags = (a.tag, b.tag, c.tag)
        if min(tags) < 0:
            return float(max(tags) < 0)
        scale = 6 / (4 * math.pi)
        for label in (a, b, c):
            scale *= (2 * label.l + 1) * (2 * label.tag + 1)
        return (
            math.sqrt(scale)
            * three_j_000(*tags)
            * nine_j((tags, (1, 1, 1), (a.l, b.l, c.l)))
        )  # fmt: skip
