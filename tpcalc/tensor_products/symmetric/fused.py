"""MACE's symmetric contraction by a C++ op."""

from __future__ import annotations

import torch

from tpcalc.kernels.ops import load_ops, ops_available
from tpcalc.tensor_products.fused import TablesOnCpu
from tpcalc.tensor_products.symmetric.cg import CgPolynomial


def polynomial_terms(product: CgPolynomial) -> list[tuple[list[tuple[int, ...]], torch.Tensor]]:
    """The polynomial of each output component: its monomials, and what paths add to them.

    A monomial is a rising tuple of input components. They are sorted as words are, so that the
    shorter ones come before those that they begin, which the op's nested evaluation relies on.
    The second entry is [monomials, paths of all outputs and powers]: coefficients = it x weights.
    """
    prefix, last, used = (
        torch.split(t, n) for t, n in ((product.prefix, product.made_counts),
                                       (product.last, product.made_counts),
                                       (product.used, product.counts))
    )  # fmt: skip
    made: list[list[tuple[int, ...]]] = [[()]]
    for p, l in zip(prefix, last):
        made.append([made[-1][a] + (b,) for a, b in zip(p.tolist(), l.tolist())])
    tables = torch.split(product.tables.double(), product.table_sizes)
    paths = [p for row in product.num_paths for p in row]
    found = []
    for n, dim in enumerate(product.dims):
        words, blocks = [], []
        for nu in range(product.correlation):
            k = n * product.correlation + nu
            words += [made[nu + 1][i] for i in used[nu].tolist()]
            row = [torch.zeros(product.counts[nu], dim, p, dtype=torch.float64) for p in paths]
            row[k] = tables[k].view(product.counts[nu], dim, product.num_paths[n][nu])
            blocks.append(torch.cat(row, 2))
        dense = torch.cat(blocks)  # [monomials, dim, all paths]
        order = sorted(range(len(words)), key=words.__getitem__)
        for k in range(dim):
            kept = [i for i in order if bool((dense[i, k].abs() > 1e-12).any())]
            found.append(([words[i] for i in kept], dense[kept, k]))
    return found


class CgPolynomialFused(TablesOnCpu, CgPolynomial):
    """`cg/polynomial` with monomials and sums in registers: one op for all nodes and species.

    Coefficients (linear in the weights) are made by small matrix products, so that training
    reaches the weights; first and second derivatives are ops. `fold()` makes them once, for
    inference.
    """

    def __init__(self, irreps_in, irreps_out=None, correlation: int = 3, num_species: int = 1):
        super().__init__(irreps_in, irreps_out, correlation, num_species)
        load_ops()
        self._make_op_tables()
        self.folded: bool = False
        self.register_buffer("coef", torch.zeros(0, dtype=torch.float64), persistent=False)

    @classmethod
    def available(cls) -> bool:
        return ops_available()

    @torch.jit.unused
    def _make_op_tables(self) -> None:
        """`op_monomials` [2, all that are made], `op_terms` [2, T] (monomial, output), and
        `path_sums` [T, paths of all outputs and powers]: coefficients = path_sums x weights."""
        found = polynomial_terms(self)
        made = sorted({w[:n] for words, _ in found for w in words for n in range(1, len(w) + 1)},
                      key=lambda w: (len(w), w))  # fmt: skip
        index = {w: n for n, w in enumerate(made)}
        monomials = [[index.get(w[:-1], -1) for w in made], [w[-1] for w in made]]
        terms = [(index[w], out) for out, (words, _) in enumerate(found) for w in words]
        self.register_buffer("op_monomials", torch.tensor(monomials).int(), persistent=False)
        self.register_buffer("op_terms", torch.tensor(terms).T.int().contiguous(), persistent=False)
        self.register_buffer("path_sums", torch.cat([u for _, u in found]), persistent=False)

    def op_coefficients(self) -> torch.Tensor:
        """[species, T, C] from the weights, in their dtype."""
        flat: list[torch.Tensor] = []
        for w in self.weights:
            flat.append(w)
        weights = torch.cat(flat, 1)  # [species, paths, C]
        return torch.matmul(self.path_sums.to(weights.dtype), weights)

    @torch.jit.unused
    def fold(self) -> None:
        """Make the coefficients now and use them while the weights take no gradients.

        `train()` and `load_state_dict()` go back to making them in each call.
        """
        weights = torch.cat([w.detach() for w in self.weights], 1)
        self.coef = torch.matmul(self.path_sums.double(), weights.double()).to(weights.dtype)
        self.folded = True

    @torch.jit.unused
    def unfold(self) -> None:
        """Make the coefficients in each call."""
        self.folded = False
        self.coef = self.coef.new_zeros(0)

    @torch.jit.unused
    def keep_species(self, index: torch.Tensor) -> None:
        super().keep_species(index)
        if self.folded:
            self.coef = self.coef.index_select(0, index)

    @torch.jit.unused
    def train(self, mode: bool = True):
        if mode:
            self.unfold()
        return super().train(mode)

    @torch.jit.unused
    def _load_from_state_dict(self, *args, **kwargs):
        self.unfold()
        return super()._load_from_state_dict(*args, **kwargs)

    def forward(self, node_feats: torch.Tensor, species: torch.Tensor) -> torch.Tensor:
        x = node_feats.unflatten(1, [self.d_in, self.mul])  # [N, d, C]
        folded = self.folded and not self.weights[0].requires_grad
        coef = self.coef if folded else self.op_coefficients()
        if coef.dtype != x.dtype:
            coef = coef.to(x.dtype)
        out = torch.ops.tpcalc.poly(x, coef, species, self.op_monomials, self.op_terms, self.d_out)
        return out.flatten(1)
