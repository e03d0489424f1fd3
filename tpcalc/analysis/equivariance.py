"""How far a bilinear map is from commuting with rotations and reflections."""

from __future__ import annotations

import torch
from e3nn.o3 import Irreps

from tpcalc.o3.layout import mul_ir_index
from tpcalc.o3.rotations import WignerMatrices
from tpcalc.tensor_products.base import Convolution, TensorProduct


def random_orthogonal(n: int, generator: torch.Generator, improper: bool = False) -> torch.Tensor:
    """[n, 3, 3] float64, uniform over rotations, or over rotations times inversion."""
    q, r = torch.linalg.qr(torch.randn(n, 3, 3, generator=generator, dtype=torch.float64))
    q = q * r.diagonal(dim1=-2, dim2=-1).sign().unsqueeze(-2)
    q = q * torch.det(q)[:, None, None]
    return -q if improper else q


def representation(irreps: Irreps, matrix: torch.Tensor) -> torch.Tensor:
    """D of one orthogonal matrix [3, 3] on features in ir_mul order: [dim, dim] float64."""
    sign = torch.det(matrix).sign()
    flat = WignerMatrices(max(irreps.lmax, 1))((matrix * sign)[None])[0]
    blocks, start = {0: torch.ones(1, 1, dtype=torch.float64)}, 0
    for l in range(1, max(irreps.lmax, 1) + 1):
        size = (2 * l + 1) ** 2
        blocks[l] = flat[start : start + size].view(2 * l + 1, 2 * l + 1)
        start += size
    parts = [blocks[ir.l] * (ir.p if sign < 0 else 1) for mul, ir in irreps for _ in range(mul)]
    dense = torch.block_diag(*parts)  # mul_ir
    order = torch.argsort(mul_ir_index(irreps))
    return dense[order][:, order]


def product_defect(product: TensorProduct, trials: int = 20, seed: int = 0) -> dict:
    """Mean and largest relative defect |f(gx, gy) - g f(x, y)| / |f(x, y)|, random g, x, y, w.

    Returns {"rotation": {"mean", "max"}, "inversion": {"mean", "max"}}; "inversion" is over
    improper g.
    """
    generator = torch.Generator().manual_seed(seed)

    def sample(matrix):
        def normal(n):
            return torch.randn(16, n, generator=generator, dtype=torch.float64)

        x, y = normal(product.irreps_in1.dim), normal(product.irreps_in2.dim)
        w = normal(product.weight_numel)
        d1, d2, d3 = (
            representation(irreps, matrix)
            for irreps in (product.irreps_in1, product.irreps_in2, product.irreps_out)
        )
        value = product(x, y, w) @ d3.T
        return float((product(x @ d1.T, y @ d2.T, w) - value).norm() / value.norm())

    return _summary(sample, trials, generator)


def convolution_defect(conv: Convolution, trials: int = 20, seed: int = 0) -> dict:
    """The same for a convolution over random edges; covers algorithms with a basis of their own."""
    generator = torch.Generator().manual_seed(seed)

    def sample(matrix):
        feats = torch.randn(4, conv.irreps_node.dim, generator=generator, dtype=torch.float64)
        vectors = torch.randn(12, 3, generator=generator, dtype=torch.float64)
        w = torch.randn(12, conv.weight_numel, generator=generator, dtype=torch.float64)
        edges = torch.randint(0, 4, (2, 12), generator=generator)
        d1 = representation(conv.irreps_node, matrix)
        d3 = representation(conv.irreps_out, matrix)
        value = conv(feats, conv.edge_basis(vectors), w, edges[0], edges[1]) @ d3.T
        turned = conv.edge_basis(vectors @ matrix.T)
        found = conv(feats @ d1.T, turned, w, edges[0], edges[1])
        return float((found - value).norm() / value.norm())

    return _summary(sample, trials, generator)


def _summary(sample, trials: int, generator: torch.Generator) -> dict:
    found = {}
    for name, improper in (("rotation", False), ("inversion", True)):
        values = [sample(m) for m in random_orthogonal(trials, generator, improper)]
        found[name] = {"mean": sum(values) / len(values), "max": max(values)}
    return found
