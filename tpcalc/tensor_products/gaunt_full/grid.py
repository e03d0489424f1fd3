"""Gaunt product and Poisson bracket on one set of nodes."""

from __future__ import annotations

import torch

from tpcalc.o3.torus import orthonormal_harmonics
from tpcalc.tensor_products.apply import apply_table
from tpcalc.tensor_products.factored import Label, mask
from tpcalc.tensor_products.gaunt.grid import choose_nodes
from tpcalc.tensor_products.gaunt_full.reference import GauntFullReference


class GauntFullGrid(GauntFullReference):
    """Product and bracket from values and two tangential derivatives at exact nodes.

    r^ . (grad f x grad g) = f_1 g_2 - f_2 g_1 in any tangent frame. The integrand has degree
    l1 + l2 + l3, as for the product alone: the same exact rules. `nodes` as in `gaunt/grid`.
    """

    options = ("terms", "nodes")

    def __init__(self, irreps_in1, irreps_in2, irreps_out=None, terms: int = 1, nodes="lebedev"):
        self.node_rule = nodes
        super().__init__(irreps_in1, irreps_in2, irreps_out, terms)

    @torch.jit.unused
    def _make_tables(self) -> None:
        one, two, out = self.labels_of_operands
        lists = [self.entries(n) for n in range(3)]
        points, weights = choose_nodes(self.node_rule, sum(irreps.lmax for irreps in lists))
        value, along1, along2 = _values_and_derivatives(max(i.lmax for i in lists), points)
        signs3 = {_sign(c) for c in out}
        rows: list[list[torch.Tensor]] = [[], [], []]

        def add(tag, s1, s2, s3, tables):
            for row, labels, s, table in zip(rows, (one, two, out), (s1, s2, s3), tables):
                kept = mask(labels, lambda a, s=s: a.tag == tag and _sign(a) == s)
                row.append(_pick(table, labels) * kept)

        for s1 in sorted({_sign(a) for a in one}, reverse=True):
            for s2 in sorted({_sign(b) for b in two}, reverse=True):
                back = value * weights[:, None]
                if s1 * s2 in signs3:
                    add("product", s1, s2, s1 * s2, (value, value, back))
                if -s1 * s2 in signs3:
                    add("bracket", s1, s2, -s1 * s2, (along1, along2, back))
                    add("bracket", s1, s2, -s1 * s2, (along2, -along1, back))
        self.register_buffer("to_nodes1", torch.cat(rows[0]), persistent=False)
        self.register_buffer("to_nodes2", torch.cat(rows[1]), persistent=False)
        self.register_buffer("from_nodes", torch.cat(rows[2]).T.contiguous(), persistent=False)

    def weighted_product(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        f = apply_table(self.to_nodes1.to(x.dtype), x)
        g = apply_table(self.to_nodes2.to(x.dtype), y)
        return apply_table(self.from_nodes.to(x.dtype), f * g)


def _sign(label: Label) -> int:
    """+1 for the components of a function, -1 for those of a pseudo-function."""
    return label.p * (-1) ** label.l


def _pick(table: torch.Tensor, labels: list[Label]) -> torch.Tensor:
    """Columns of a table over (l, m) in the order of the labels."""
    return torch.cat([table[:, a.l**2 : (a.l + 1) ** 2] for a in labels], 1)


def _values_and_derivatives(lmax: int, points: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Y and its derivatives along two tangents e1, e2 with e1 x e2 = r^, each [n, (lmax+1)^2]."""
    helper = torch.zeros_like(points)
    helper[torch.arange(len(points)), points.abs().argmin(1)] = 1.0
    first = torch.nn.functional.normalize(torch.linalg.cross(helper, points), dim=1)
    second = torch.linalg.cross(points, first)
    made = [
        torch.func.jvp(lambda r: orthonormal_harmonics(lmax, r), (points,), (tangent,))
        for tangent in (first, second)
    ]
    return made[0][0], made[0][1], made[1][1]
