"""What a CP rank costs in accuracy: tensor error, equivariance defect, and its bound."""

from __future__ import annotations

import torch

from tpcalc.analysis.equivariance import random_orthogonal, representation
from tpcalc.tensor_products import tensor_product
from tpcalc.tensor_products.shared.cp_factors import load_factors, stored_ranks, target_tensor


def factor_defect(lmax: int, kind: str, rank: int, trials: int = 20, seed: int = 0) -> dict:
    """Errors of the stored factors themselves, as TDN uses them.

    Returns {"rank", "error" (relative, of the tensor), "defect" (mean relative rotation defect),
    "bound_ratio" (largest defect / (2 ||M - M^||_F |x| |y|), never above 1)}.
    """
    factors = load_factors(lmax, kind, rank)
    dense = target_tensor(lmax, kind)
    rebuilt = torch.einsum("ir,jr,kr->ijk", *factors[:3])
    gap = float((rebuilt - dense).norm())
    generator = torch.Generator().manual_seed(seed)
    irreps = tensor_product("cg/reference", "+".join(f"1x{l}e" for l in range(lmax + 1)),
                            "0e").irreps_in1  # fmt: skip
    defects, ratios = [], []
    for matrix in random_orthogonal(trials, generator):
        d = representation(irreps, matrix)
        x = torch.randn(64, d.shape[0], generator=generator, dtype=torch.float64)
        y = torch.randn(64, d.shape[0], generator=generator, dtype=torch.float64)
        value = torch.einsum("ni,nj,ijk->nk", x, y, rebuilt) @ d.T
        turned = torch.einsum("ni,nj,ijk->nk", x @ d.T, y @ d.T, rebuilt)
        off = (turned - value).norm(dim=1)
        defects.append(float((turned - value).norm() / value.norm()))
        if gap > 1e-12:
            ratios.append(float((off / (2 * gap * x.norm(dim=1) * y.norm(dim=1))).max()))
    return {
        "lmax": lmax, "paths": kind, "rank": rank, "error": factors.error,
        "defect": sum(defects) / trials, "bound_ratio": max(ratios, default=0.0),
    }  # fmt: skip


def rank_sweep(lmax: int, kind: str = "all", trials: int = 20) -> list[dict]:
    """`factor_defect` at every stored rank, ascending; the exact rank is the last but few."""
    return [factor_defect(lmax, kind, rank, trials) for rank in stored_ranks(lmax, kind)]
