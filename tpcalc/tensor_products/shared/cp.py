"""Path-weight sharing through a CP decomposition of the summed coupling tensor (TDN)."""

from __future__ import annotations

import math

import torch

from tpcalc.errors import InputError, check_name
from tpcalc.tensor_products.apply import apply_table
from tpcalc.tensor_products.base import Convolution, HarmonicsBasis
from tpcalc.tensor_products.shared.cp_factors import STORED, Factors, load_factors
from tpcalc.tensor_products.shared.edge_matrix import EdgeMatrixConvolution
from tpcalc.tensor_products.shared.reference import SharedReference


class SharedCp(SharedReference):
    """The summed coupling tensor as a CP decomposition of rank R, factors stored.

    z_k = w sum_r c_kr (a^T x)_r (b^T y)_r. `rank` None takes the smallest rank known to be exact
    (`EXACT_RANK`): equal to `shared/reference` to round-off. A smaller one is a controlled
    approximation: `tensor_error` is the relative Frobenius error of this layer's tensor, and
    rotation defects are of that size. Strictly O(3) at any rank: TDN's factors, and all inexact
    ones, mix even and odd paths, so there the product is taken twice, with (x, y) and with their
    odd degrees negated; sums and differences make tensors and pseudo-tensors.

    `order` of the convolution: "folded" builds one matrix c diag(b^T y) a^T an edge (what TDN's
    einsum optimiser does), "factors" runs the three factor products a channel. `factors` names
    a file made by `python -m tpcalc.analysis.cp_fit`. Source: Lin et al. 2025 (TDN).
    """

    options = ("rank", "factors", "order")

    def __init__(self, irreps_in1, irreps_in2, irreps_out=None, rank: int | None = None,
                 factors: str | None = None, order: str = "folded"):  # fmt: skip
        super().__init__(irreps_in1, irreps_in2, irreps_out)
        if rank is not None and (not isinstance(rank, int) or rank < 1):
            raise InputError(f"rank={rank!r}; a whole number >= 1 is needed")
        self.order = check_name("order", order, ("folded", "factors"))
        self.kind = "all" if any((p.l1 + p.l2 + p.l3) % 2 for p in self.paths) else "natural"
        lmax = max(irreps.lmax for irreps in (self.irreps_in1, self.irreps_in2, self.irreps_out))
        found = load_factors(lmax, self.kind, rank, factors or STORED)
        self.rank = found.a.shape[1]
        self._make_factors(found)
        self.tensor_error = float(
            (torch.einsum("ir,jr,kr->ijk", self.a, self.b, self.c) - self.coupling).norm()
            / self.coupling.norm()
        )
        self.exact = self.tensor_error < 1e-12

    @torch.jit.unused
    def _make_factors(self, found: Factors) -> None:
        """a [d1, R'], b [d2, R'], c [d3, R']: the stored factors, parity by parity."""
        lists = (self.irreps_in1, self.irreps_in2, self.irreps_out)
        signs = [[ir.p * (-1) ** ir.l for _, ir in irreps] for irreps in lists]
        groups: list[list[torch.Tensor]] = [[], [], []]
        labelled_even = all(ir.p == 1 for irreps in lists for _, ir in irreps)
        if labelled_even:  # SO(3): every triangle is a path, the factors apply as they are
            signs = [[1] * len(irreps) for irreps in lists]
        for s1 in sorted(set(signs[0]), reverse=True):
            for s2 in sorted(set(signs[1]), reverse=True):
                even, odd = s1 * s2, -s1 * s2  # sign of natural and pseudo outputs
                if even not in signs[2] and (self.kind == "natural" or odd not in signs[2]):
                    continue
                a = _rows(found.a, self.irreps_in1, signs[0], s1)
                b = _rows(found.b, self.irreps_in2, signs[1], s2)
                c = _rows(found.c, self.irreps_out, signs[2], even, norm=True)
                if (self.kind == "all" or found.error > 1e-12) and not labelled_even:
                    a = torch.cat([a, _flip(a, self.irreps_in1)], 1)
                    b = torch.cat([b, _flip(b, self.irreps_in2)], 1)
                    pseudo = torch.zeros_like(c)
                    if self.kind == "all":
                        pseudo = _rows(found.c, self.irreps_out, signs[2], odd, norm=True)
                    c = torch.cat([c + pseudo, _flip(c - pseudo, self.irreps_out)], 1) / 2
                for group, factor in zip(groups, (a, b, c)):
                    group.append(factor)
        for name, group in zip("abc", groups):
            self.register_buffer(name, torch.cat(group, 1).contiguous(), persistent=False)

    def forward(self, x: torch.Tensor, y: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        x = x.unflatten(-1, [self.d1, self.mul]) * w.unsqueeze(-2)  # [..., d1, mul]
        y = y.unflatten(-1, [self.d2, 1 if self.uvu else self.mul])
        product = apply_table(self.a.T.to(x.dtype), x) * apply_table(self.b.T.to(x.dtype), y)
        return apply_table(self.c.to(x.dtype), product).flatten(-2)  # [..., d3 mul]

    def convolution(self) -> Convolution:
        if not self.uvu:
            return Convolution(self)
        if self.order == "folded":
            return EdgeMatrixConvolution(self, CpMatrixBasis(self))
        return CpConvolution(self)


class CpMatrixBasis(torch.nn.Module):
    """The folded matrices c diag(b^T y) a^T of the edges: [E, 3] -> [E, d3, d1]."""

    def __init__(self, tensor_product: SharedCp):
        super().__init__()
        self.spec = ("cp_matrix", *_identity(tensor_product))
        self.harmonics = HarmonicsBasis(tensor_product.irreps_in2)
        for name in "abc":
            self.register_buffer(name, getattr(tensor_product, name), persistent=False)

    def forward(self, edge_vectors: torch.Tensor) -> torch.Tensor:
        y = self.harmonics(edge_vectors)  # [E, d2]
        scaled = self.c.to(y.dtype) * y.matmul(self.b.to(y.dtype)).unsqueeze(1)  # [E, d3, R]
        return scaled.matmul(self.a.T.to(y.dtype))


class CpFilterBasis(torch.nn.Module):
    """b^T y of the edges: [E, 3] -> [E, R]."""

    def __init__(self, tensor_product: SharedCp):
        super().__init__()
        self.spec = ("cp_filter", *_identity(tensor_product))
        self.harmonics = HarmonicsBasis(tensor_product.irreps_in2)
        self.register_buffer("b", tensor_product.b, persistent=False)

    def forward(self, edge_vectors: torch.Tensor) -> torch.Tensor:
        return self.harmonics(edge_vectors).matmul(self.b.to(edge_vectors.dtype))


class CpConvolution(Convolution):
    """Gather, weigh, the three factor products, sum."""

    def __init__(self, tensor_product: SharedCp):
        super().__init__(tensor_product, CpFilterBasis(tensor_product))
        self.d1, self.mul = tensor_product.d1, tensor_product.mul
        self.register_buffer("a", tensor_product.a, persistent=False)
        self.register_buffer("c", tensor_product.c, persistent=False)

    def forward(
        self,
        node_feats: torch.Tensor,
        edge_basis: torch.Tensor,
        edge_weights: torch.Tensor,
        senders: torch.Tensor,
        receivers: torch.Tensor,
        num_receivers: int | None = None,
    ) -> torch.Tensor:
        n = node_feats.shape[0] if num_receivers is None else num_receivers
        x = node_feats.view(-1, self.d1, self.mul)
        # the first factor product is linear in the node: once a node, not once an edge
        x = self.a.T.to(x.dtype).matmul(x).index_select(0, senders)  # [E, R, mul]
        x = x * edge_basis.unsqueeze(2) * edge_weights.unsqueeze(1)
        messages = torch.zeros(n, x.shape[1], self.mul, dtype=x.dtype, device=x.device)
        messages = messages.index_add(0, receivers, x)  # so is the last one
        return self.c.to(x.dtype).matmul(messages).flatten(1)


def _identity(tensor_product: SharedCp) -> tuple[str, ...]:
    """What two layers must agree in to share a basis."""
    tp = tensor_product
    irreps = [[ir for _, ir in tp.irreps_in1], tp.irreps_in2, [ir for _, ir in tp.irreps_out]]
    return (str(irreps), str(tp.rank), f"{tp.tensor_error:.6e}")


def _rows(factor, irreps, signs, keep: int, norm: bool = False) -> torch.Tensor:
    """Rows of a stored factor for each entry; zero where its sign differs from `keep`."""
    parts = []
    for (_, ir), sign in zip(irreps, signs):
        scale = float(sign == keep) * (math.sqrt(2 * ir.l + 1) if norm else 1.0)
        parts.append(factor[ir.l**2 : (ir.l + 1) ** 2] * scale)
    return torch.cat(parts)


def _flip(factor, irreps) -> torch.Tensor:
    """Odd degrees negated."""
    sign = [torch.full((ir.dim, 1), (-1.0) ** ir.l, dtype=factor.dtype) for _, ir in irreps]
    return factor * torch.cat(sign)
