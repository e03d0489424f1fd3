"""MACE's symmetric contraction by a C++ op."""

from __future__ import annotations

import torch

from tpcalc.kernels.ops import load_ops, ops_available
from tpcalc.tensor_products.symmetric.cg import CgPolynomial


class CgPolynomialFused(CgPolynomial):
    """`cg/polynomial` with monomials and sums in registers: one op for all nodes and species.

    Coefficients (linear in the weights) are made by small matrix products, so that training
    reaches the weights; first and second derivatives are ops. CPU.
    """

    devices = ("cpu",)

    def __init__(self, irreps_in, irreps_out=None, correlation: int = 3, num_species: int = 1):
        super().__init__(irreps_in, irreps_out, correlation, num_species)
        load_ops()
        self._make_op_tables()

    @classmethod
    def available(cls) -> bool:
        return ops_available()

    @torch.jit.unused
    def _make_op_tables(self) -> None:
        """`op_monomials` [2, all that are made], `op_terms` [2, T] (monomial, output), and
        `op_u` [T, paths of all outputs and powers]: coefficients = op_u x weights."""
        prefix, last = (torch.split(t, self.made_counts) for t in (self.prefix, self.last))
        used = torch.split(self.used, self.counts)
        starts = [sum(self.made_counts[:nu]) for nu in range(self.correlation)]
        before = [torch.full_like(prefix[0], -1)]
        before += [prefix[nu] + starts[nu - 1] for nu in range(1, self.correlation)]
        monomials = torch.stack([torch.cat(before), torch.cat(last)])
        columns = torch.cat([used[nu] + starts[nu] for nu in range(self.correlation)])
        tables = torch.split(self.tables, self.table_sizes)
        u, terms, component = [], [], 0
        for n, dim in enumerate(self.dims):
            blocks = [[torch.zeros(self.counts[nu], dim, p) for p in sum(self.num_paths, [])]
                      for nu in range(self.correlation)]  # fmt: skip
            for nu, row in enumerate(blocks):
                k = n * self.correlation + nu
                row[k] = tables[k].view(self.counts[nu], dim, self.num_paths[n][nu])
            dense = torch.cat([torch.cat([b.double() for b in row], 2) for row in blocks])
            for k in range(dim):
                rows = torch.nonzero((dense[:, k].abs() > 1e-12).any(1)).flatten()
                u.append(dense[rows, k])
                terms.append(torch.stack([columns[rows], torch.full_like(rows, component)]))
                component += 1
        self.register_buffer("op_monomials", monomials.int(), persistent=False)
        self.register_buffer("op_terms", torch.cat(terms, 1).int(), persistent=False)
        self.register_buffer("op_u", torch.cat(u), persistent=False)

    def forward(self, node_feats: torch.Tensor, species: torch.Tensor) -> torch.Tensor:
        x = node_feats.unflatten(1, [self.d_in, self.mul])  # [N, d, C]
        flat: list[torch.Tensor] = []
        for w in self.weights:
            flat.append(w.to(x.dtype))
        weights = torch.cat(flat, 1)  # [species, paths, C]
        coef = torch.matmul(self.op_u.to(x.dtype), weights)  # [species, T, C]
        out = torch.ops.tpcalc.poly(x, coef, species, self.op_monomials, self.op_terms, self.d_out)
        return out.flatten(1)
