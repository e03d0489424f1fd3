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
        """`op_monomials` [2, all that are made], `op_terms` [2, used monomials x outputs]."""
        prefix = torch.split(self.prefix, self.made_counts)
        last = torch.split(self.last, self.made_counts)
        used = torch.split(self.used, self.counts)
        starts = [sum(self.made_counts[:nu]) for nu in range(self.correlation)]
        before = [torch.full_like(prefix[0], -1)]
        before += [prefix[nu] + starts[nu - 1] for nu in range(1, self.correlation)]
        monomials = torch.stack([torch.cat(before), torch.cat(last)])
        columns = torch.cat([used[nu] + starts[nu] for nu in range(self.correlation)])
        # a term for each output, in the order of `coefficients`; those that are always zero go
        sizes = torch.split(self.tables, self.table_sizes)
        keep, outputs, component = [], [], 0
        for n, dim in enumerate(self.dims):
            tables = [sizes[n * self.correlation + nu] for nu in range(self.correlation)]
            nonzero = [
                (t.view(self.counts[nu], dim, -1).abs() > 1e-12).any(2)
                for nu, t in enumerate(tables)
            ]
            nonzero = torch.cat(nonzero)  # [used monomials, 2L+1]
            for k in range(dim):
                rows = torch.nonzero(nonzero[:, k]).flatten()
                keep.append(rows * self.d_out + component)
                outputs.append(torch.stack([columns[rows], torch.full_like(rows, component)]))
                component += 1
        self.register_buffer("op_monomials", monomials.int(), persistent=False)
        self.register_buffer("op_terms", torch.cat(outputs, 1).int(), persistent=False)
        self.register_buffer("op_keep", torch.cat(keep), persistent=False)

    def forward(self, node_feats: torch.Tensor, species: torch.Tensor) -> torch.Tensor:
        x = node_feats.unflatten(1, [self.d_in, self.mul])  # [N, d, C]
        tables = torch.split(self.tables.to(x.dtype), self.table_sizes)
        flat: list[torch.Tensor] = []
        for w in self.weights:
            flat.append(w.to(x.dtype))
        rows: list[torch.Tensor] = []
        for z in range(self.num_species):
            a = self.coefficients(tables, flat, z).flatten(1)  # [C, monomials x d_out]
            rows.append(a.index_select(1, self.op_keep).t())
        coef = torch.stack(rows)  # [species, terms, C]
        out = torch.ops.tpcalc.poly(x, coef, species, self.op_monomials, self.op_terms, self.d_out)
        return out.flatten(1)
