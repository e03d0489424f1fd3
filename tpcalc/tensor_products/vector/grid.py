"""The vector product on nodes of the sphere: three components, one cross product a node."""

from __future__ import annotations

import math

import torch
from e3nn.o3 import wigner_3j

from tpcalc.o3.torus import orthonormal_harmonics
from tpcalc.tensor_products.apply import apply_table
from tpcalc.tensor_products.factored import Label, mask
from tpcalc.tensor_products.gaunt.grid import choose_nodes
from tpcalc.tensor_products.vector.reference import VectorReference


class VectorGrid(VectorReference):
    """Evaluate the fields at exact nodes, take cross products, project.

    `nodes` as in `gaunt/grid`. Exact: the integrand has degree l1 + l2 + l3 (largest orbital
    degrees, one above those of the features).
    """

    options = ("terms", "nodes")

    def __init__(self, irreps_in1, irreps_in2, irreps_out=None, terms: int = 1, nodes="lebedev"):
        self.node_rule = nodes
        super().__init__(irreps_in1, irreps_in2, irreps_out, terms)

    @torch.jit.unused
    def _make_tables(self) -> None:
        one, two, out = self.labels_of_operands
        largest = [max(a.tag for a in labels) for labels in (one, two, out)]
        points, weights = choose_nodes(self.node_rule, sum(largest))
        harmonics = orthonormal_harmonics(max(largest), points)
        fields = [_fields(harmonics, labels) for labels in (one, two, out)]  # [3, nodes, comps]
        fields[2] = fields[2] * weights[:, None]
        rows: list[list[torch.Tensor]] = [[], [], []]
        scalar_rows: list[list[torch.Tensor]] = [[], [], []]
        for s1 in (1, -1):
            for s2 in (1, -1):
                for n, (labels, s) in enumerate(((one, s1), (two, s2), (out, s1 * s2))):
                    kept = mask(labels, lambda a, s=s: a.tag >= 0 and a.p * (-1) ** a.tag == s)
                    rows[n].append(fields[n] * kept)
                    kept = mask(labels, lambda a, s=s: a.tag < 0 and a.p == s)
                    scalar_rows[n].append(kept[None])
        used = [n for n in range(4) if all(row[n].any() for row in rows)]
        for n, name in enumerate(("to_nodes1", "to_nodes2", "from_nodes")):
            none = fields[n][:, :0]
            table = torch.cat([none, *(rows[n][k] for k in used)], 1)  # [3, groups nodes, comps]
            self.register_buffer(name, table.contiguous(), persistent=False)
            scalars = torch.cat(scalar_rows[n])  # [4, comps]
            self.register_buffer(f"scalars{n + 1}", scalars, persistent=False)

    def weighted_product(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        f = apply_table(self.scalars1.to(x.dtype), x) * apply_table(self.scalars2.to(x.dtype), y)
        z = apply_table(self.scalars3.to(x.dtype).T, f)
        v1, v2, v3 = self.at_nodes(self.to_nodes1, x)
        u1, u2, u3 = self.at_nodes(self.to_nodes2, y)
        back = self.from_nodes.to(x.dtype).transpose(1, 2)
        z = z + apply_table(back[0], v2 * u3 - v3 * u2)
        z = z + apply_table(back[1], v3 * u1 - v1 * u3)
        return z + apply_table(back[2], v1 * u2 - v2 * u1)

    def at_nodes(
        self, table: torch.Tensor, x: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The three components of the field of x, each [..., groups nodes, mul]."""
        table = table.to(x.dtype)
        return apply_table(table[0], x), apply_table(table[1], x), apply_table(table[2], x)


def _fields(harmonics: torch.Tensor, labels: list[Label]) -> torch.Tensor:
    """Orthonormal vector harmonics Y_{j l} at the nodes: [3, nodes, components of the labels]."""
    parts = []
    for label in labels:
        j, l = label.l, label.tag
        if l < 0:
            parts.append(torch.zeros(3, len(harmonics), 2 * j + 1, dtype=torch.float64))
            continue
        coupling = wigner_3j(l, 1, j, dtype=torch.float64) * math.sqrt(2 * j + 1)
        parts.append(torch.einsum("na,aqm->qnm", harmonics[:, l**2 : (l + 1) ** 2], coupling))
    return torch.cat(parts, 2)
