"""The Gaunt product: pointwise product of two functions on the sphere, by coefficients."""

from __future__ import annotations

import torch

from tpcalc.errors import InputError
from tpcalc.o3.gaunt import gaunt
from tpcalc.tensor_products.base import TensorProduct
from tpcalc.tensor_products.paths import as_irreps, enumerate_paths


class GauntReference(TensorProduct):
    """z_l3 = sum_t w3_l3 sum G^{l1 l2 l3} (w1_l1 x_l1) (w2_l2 y_l2), channel by channel.

    G is the integral of three orthonormal harmonics, so only even l1 + l2 + l3 occur: no cross
    product, no pseudo-tensor from natural-parity inputs. Inputs with either parity are
    accepted; every degree has the same multiplicity. `terms` weight sets are summed
    (`gaunt:R`); enough of them reach every even-path Clebsch-Gordan product.

    Weight columns, per term: w1 (entries of irreps_in1 x channels), w2 (entries of irreps_in2 x
    channels), w3 (entries of irreps_out x channels). Source: Luo et al. 2024, eq. 4; Xie et
    al. 2025 (GTP).
    """

    function = "gaunt"
    options = ("terms",)

    def __init__(self, irreps_in1, irreps_in2, irreps_out=None, terms: int = 1):
        super().__init__(irreps_in1, irreps_in2)
        if not isinstance(terms, int) or terms < 1:
            raise InputError(f"terms={terms!r}; a whole number >= 1 is needed")
        irreps_out = None if irreps_out is None else as_irreps(irreps_out)
        self.paths, self.irreps_out = enumerate_paths(
            self.irreps_in1, self.irreps_in2, irreps_out, even_only=True, merge=True
        )
        self.mul = self.paths[0].mul
        self.terms = terms
        self.uvu = self.channel_mode == "uvu"
        self.sizes = [len(self.irreps_in1), len(self.irreps_in2), len(self.irreps_out)]
        self.weight_numel = terms * sum(self.sizes) * self.mul
        self.dims1 = [ir.dim for _, ir in self.irreps_in1]
        self.dims2 = [ir.dim for _, ir in self.irreps_in2]
        self.dims3 = [ir.dim for _, ir in self.irreps_out]
        for name, dims in (("degree1", self.dims1), ("degree2", self.dims2)):
            self.register_buffer(name, _expand(dims), persistent=False)
        self.register_buffer("degree3", _expand(self.dims3), persistent=False)
        self._make_tables()

    @torch.jit.unused
    def _make_tables(self) -> None:
        d1, d2, d3 = sum(self.dims1), sum(self.dims2), sum(self.dims3)
        dense = torch.zeros(d1, d2, d3, dtype=torch.float64)
        for p in self.paths:
            i, j, k = sum(self.dims1[: p.in1]), sum(self.dims2[: p.in2]), sum(self.dims3[: p.out])
            block = gaunt(p.l1, p.l2, p.l3)
            dense[i : i + 2 * p.l1 + 1, j : j + 2 * p.l2 + 1, k : k + 2 * p.l3 + 1] = block
        self.register_buffer("coupling", dense, persistent=False)

    def weighted_product(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """[..., d1, mul] x [..., d2, mul] -> [..., d3, mul] with unit weights."""
        return torch.einsum("...iu,...ju,ijk->...ku", x, y, self.coupling.to(x.dtype))

    def forward(self, x: torch.Tensor, y: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        mul = self.mul
        x = x.unflatten(-1, [len(self.degree1), mul])  # [..., d1, mul]
        y = y.unflatten(-1, [len(self.degree2), 1 if self.uvu else mul])
        w = w.unflatten(-1, [self.terms, sum(self.sizes), mul])  # [..., terms, degrees, mul]
        n1, n2, n3 = self.sizes[0], self.sizes[1], self.sizes[2]
        terms: list[torch.Tensor] = []
        for t in range(self.terms):
            wt = w[..., t, :, :]
            w1 = wt[..., :n1, :].index_select(-2, self.degree1)  # [..., d1, mul]
            w2 = wt[..., n1 : n1 + n2, :].index_select(-2, self.degree2)
            w3 = wt[..., n1 + n2 : n1 + n2 + n3, :].index_select(-2, self.degree3)
            terms.append(self.weighted_product(x * w1, y * w2) * w3)
        return torch.stack(terms).sum(0).flatten(-2) if len(terms) > 1 else terms[0].flatten(-2)


def _expand(dims: list[int]) -> torch.Tensor:
    """Which entry each component belongs to."""
    return torch.repeat_interleave(torch.arange(len(dims)), torch.tensor(dims))
