"""MACE's symmetric contraction: as tensors U, and as polynomials."""

from __future__ import annotations

import math

import torch
from e3nn.o3 import Irrep, Irreps, wigner_3j

from tpcalc.errors import InputError
from tpcalc.kept_species import keep_rows
from tpcalc.tensor_products.symmetric.base import ManyBody

_MAX_ENTRIES = 2**20  # of one coupling: 8 MiB, times the number of paths


def coupled_tensors(
    irreps: Irreps, order: int, keep: list[Irrep]
) -> list[tuple[Irrep, torch.Tensor]]:
    """Every way to couple `order` copies of `irreps` one after another into the irreps `keep`.

    Each is (irrep, U [2L+1, d, ..., d]), component normalisation, in the order of MACE's
    U matrices (its weights can be carried over); at order 4 intermediate and final irreps have
    natural parity, as there.
    """
    starts = [sum(ir.dim for _, ir in irreps[:n]) for n in range(len(irreps))]
    d = sum(ir.dim for _, ir in irreps)
    eye = torch.eye(d, dtype=torch.float64)
    found = [(ir, eye[s : s + ir.dim]) for (_, ir), s in zip(irreps, starts)]
    for step in range(order - 1):
        longer = []
        for left, u in found:
            for (_, ir), s in zip(irreps, starts):
                for out in left * ir:
                    if order == 4 and out.p != (-1) ** out.l:
                        continue
                    if step == order - 2 and out not in keep:
                        continue
                    c = wigner_3j(out.l, left.l, ir.l, dtype=torch.float64) * math.sqrt(out.dim)
                    block = torch.einsum("a...,kab->k...b", u, c)
                    wide = torch.zeros(*block.shape[:-1], d, dtype=torch.float64)
                    wide[..., s : s + ir.dim] = block
                    longer.append((out, wide))
        found = sorted(longer, key=lambda item: item[0])
    return found


def u_tensors(irreps: Irreps, keep: list[Irrep], order: int) -> list[torch.Tensor]:
    """All couplings to each irrep: [2L+1, d, ..., d, paths], float64; zero paths where none.

    Raises:
        InputError: the tensors would not fit in memory.
    """
    d = sum(ir.dim for _, ir in irreps)
    if max(ir.dim for ir in keep) * d**order > _MAX_ENTRIES:
        raise InputError(
            f"power {order} of {irreps} couples through tensors of {d**order} entries a component; "
            "use a lower correlation, lower degrees or the function 'gaunt'"
        )
    found = coupled_tensors(irreps, order, keep)
    tensors = []
    for wanted in keep:
        same = [u for ir, u in found if ir == wanted]
        none = torch.zeros(wanted.dim, *([d] * order), 0, dtype=torch.float64)
        tensors.append(torch.stack(same, -1) if same else none)
    return tensors


class CgSymmetric(ManyBody):
    """Every coupling of up to `correlation` factors: B_L = sum_nu,path w[z, path] U^nu x ... x.

    Written as MACE evaluates it, highest power first, each step contracting one x (Horner).
    Parameters `weights[output * correlation + nu - 1]` [species, paths, channels], drawn from
    normal / paths; paths in the order of MACE's U matrices. Source: Batatia et al. 2022 (MACE,
    eq. 10 and 11).
    """

    function = "cg"

    def __init__(self, irreps_in, irreps_out=None, correlation: int = 3, num_species: int = 1):
        super().__init__(irreps_in, irreps_out, correlation, num_species)
        self.dims = [ir.dim for _, ir in self.irreps_out]
        keep = [ir for _, ir in self.irreps_out]
        # the highest power first: it alone can be too large
        powers = [u_tensors(self.irreps_in, keep, nu) for nu in range(correlation, 0, -1)][::-1]
        tensors = [[us[n] for us in powers] for n in range(len(keep))]  # [output][power]
        self.num_paths = [[u.shape[-1] for u in row] for row in tensors]
        for ir, paths in zip(keep, self.num_paths):
            if sum(paths) == 0:
                raise InputError(
                    f"no product of up to {correlation} factors {self.irreps_in} makes {ir}"
                )
        shapes = [(num_species, n, self.mul) for paths in self.num_paths for n in paths]
        self.weights = torch.nn.ParameterList(
            [torch.randn(shape, dtype=torch.float64) / max(shape[1], 1) for shape in shapes]
        )
        self._make_tables(tensors)

    @torch.jit.unused
    def _make_tables(self, tensors: list[list[torch.Tensor]]) -> None:
        flat = [u.flatten() for row in tensors for u in row]
        self.table_sizes = [len(t) for t in flat]
        self.register_buffer("tables", torch.cat(flat), persistent=False)

    @torch.jit.unused
    def keep_species(self, index: torch.Tensor) -> None:
        """See `Potential.of_species`."""
        keep_rows(self.weights, index, *(str(n) for n in range(len(self.weights))))
        self.num_species = len(index)

    def forward(self, node_feats: torch.Tensor, species: torch.Tensor) -> torch.Tensor:
        x = node_feats.unflatten(1, [self.d_in, self.mul])  # [N, d, C]
        out = torch.zeros(x.shape[0], self.d_out * self.mul, dtype=x.dtype, device=x.device)
        tables = torch.split(self.tables.to(x.dtype), self.table_sizes)
        flat: list[torch.Tensor] = []
        for w in self.weights:
            flat.append(w.to(x.dtype))
        for z in range(self.num_species):
            nodes = torch.nonzero(species == z).flatten()
            if nodes.numel() == 0:
                continue
            xz = x.index_select(0, nodes)
            parts: list[torch.Tensor] = []
            for n in range(len(self.dims)):
                parts.append(self.one_output(xz, tables, flat, n, z))
            out = out.index_copy(0, nodes, torch.cat(parts, 1).flatten(1))
        return out

    def one_output(self, x: torch.Tensor, tables: list[torch.Tensor], weights: list[torch.Tensor],
                   n: int, z: int) -> torch.Tensor:  # fmt: skip
        """[N, 2L+1, C] for output n and one species."""
        d, dim = self.d_in, self.dims[n]
        total = torch.zeros(0, dtype=x.dtype, device=x.device)
        for step in range(self.correlation):
            nu = self.correlation - step
            k = n * self.correlation + nu - 1
            rows = dim
            for _ in range(nu - 1):
                rows = rows * d
            # weighted couplings, free of nodes: [rows, d, C]
            u = tables[k].view(rows * d, self.num_paths[n][nu - 1]).matmul(weights[k][z])
            u = u.view(rows, d, self.mul)
            if step == 0:
                total = torch.einsum("ric,nic->nrc", u, x)
            else:
                c = u + total.unflatten(1, [rows, d])  # [N, rows, d, C]
                total = torch.einsum("nric,nic->nrc", c, x)
        return total


class CgPolynomial(CgSymmetric):
    """The same contraction as polynomials in the components of x: every monomial once.

    U's d^nu entries that belong to one monomial are summed when the module is built; a node
    evaluates its monomials and takes one matrix product a channel with coefficients that
    depend on weights alone.
    """

    @torch.jit.unused
    def _make_tables(self, tensors: list[list[torch.Tensor]]) -> None:
        """Sum U over the orders of each monomial; drop monomials that no output uses.

        A monomial is made from its prefix and its last factor, so prefixes are evaluated too.
        """
        corr = self.correlation
        kept: list[list[tuple[int, ...]]] = []  # monomials of each power
        sums = []  # [power][output]: [2L+1, kept, paths]
        for nu in range(1, corr + 1):
            axes = torch.cartesian_prod(*[torch.arange(self.d_in)] * nu).view(-1, nu)
            monomials, member = torch.unique(axes.sort(1).values, dim=0, return_inverse=True)
            summed = []
            for row in tensors:
                u = row[nu - 1]
                zero = torch.zeros(u.shape[0], len(monomials), u.shape[-1], dtype=u.dtype)
                summed.append(zero.index_add_(1, member, u.flatten(1, -2)))
            used = torch.stack([(t.abs() > 1e-12).any(2).any(0) for t in summed]).any(0)
            sums.append([t[:, used] for t in summed])
            kept.append([tuple(m) for m in monomials[used].tolist()])
        made = [sorted({m[:nu] for longer in kept[nu - 1 :] for m in longer})
                for nu in range(1, corr + 1)]  # fmt: skip
        index = [{m: n for n, m in enumerate(row)} for row in made]
        columns = {
            "prefix": [
                [index[nu - 1][m[:-1]] if nu else 0 for m in made[nu]] for nu in range(corr)
            ],
            "last": [[m[-1] for m in made[nu]] for nu in range(corr)],
            "used": [[index[nu][m] for m in kept[nu]] for nu in range(corr)],
        }
        for name, rows in columns.items():
            flat = torch.tensor([n for row in rows for n in row], dtype=torch.long)
            self.register_buffer(name, flat, persistent=False)
        self.made_counts = [len(row) for row in made]
        flat = [sums[nu][n].permute(1, 0, 2).flatten()
                for n in range(len(tensors)) for nu in range(corr)]  # fmt: skip
        self.counts = [len(row) for row in kept]
        self.table_sizes = [len(t) for t in flat]
        self.register_buffer("tables", torch.cat(flat), persistent=False)

    def monomials(self, x: torch.Tensor) -> torch.Tensor:
        """[N, d, C] -> [N, monomials of all powers, C]."""
        prefix = torch.split(self.prefix, self.made_counts)
        last = torch.split(self.last, self.made_counts)
        used = torch.split(self.used, self.counts)
        current = x.index_select(1, last[0])
        parts = [current.index_select(1, used[0])]
        for nu in range(1, self.correlation):
            current = current.index_select(1, prefix[nu]) * x.index_select(1, last[nu])
            parts.append(current.index_select(1, used[nu]))
        return torch.cat(parts, 1)

    def coefficients(self, tables: list[torch.Tensor], weights: list[torch.Tensor],
                     z: int) -> torch.Tensor:  # fmt: skip
        """[C, monomials, d_out] for one species."""
        columns: list[torch.Tensor] = []
        for n in range(len(self.dims)):
            parts: list[torch.Tensor] = []
            for nu in range(self.correlation):
                k = n * self.correlation + nu
                rows = self.counts[nu] * self.dims[n]
                a = tables[k].view(rows, self.num_paths[n][nu]).matmul(weights[k][z])
                parts.append(a.view(self.counts[nu], self.dims[n], self.mul))
            columns.append(torch.cat(parts))
        return torch.cat(columns, 1).permute(2, 0, 1)

    def forward(self, node_feats: torch.Tensor, species: torch.Tensor) -> torch.Tensor:
        x = node_feats.unflatten(1, [self.d_in, self.mul])  # [N, d, C]
        out = torch.zeros(x.shape[0], self.d_out * self.mul, dtype=x.dtype, device=x.device)
        tables = torch.split(self.tables.to(x.dtype), self.table_sizes)
        flat: list[torch.Tensor] = []
        for w in self.weights:
            flat.append(w.to(x.dtype))
        for z in range(self.num_species):
            nodes = torch.nonzero(species == z).flatten()
            if nodes.numel() == 0:
                continue
            m = self.monomials(x.index_select(0, nodes)).permute(2, 0, 1)  # [C, N, monomials]
            b = m.bmm(self.coefficients(tables, flat, z))  # [C, N, d_out]
            out = out.index_copy(0, nodes, b.permute(1, 2, 0).flatten(1))
        return out
