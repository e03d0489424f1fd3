"""Couplings of a foreign symmetric contraction in terms of ours, whatever basis it used.

MACE stores its coupling tensors U. Their order, signs and number depend on the versions of
e3nn and mace (full or reduced set). Only the symmetric part of U acts, and ours spans all
equivariant symmetric maps, so the stored U is a combination of ours: solved for, not assumed.
"""

from __future__ import annotations

import functools

import torch
from e3nn.o3 import Irrep, Irreps

from tpcalc.errors import InputError
from tpcalc.tensor_products.symmetric.cg import u_tensors


def symmetric_part(u: torch.Tensor, d: int, power: int) -> torch.Tensor:
    """[2L+1, d, ..., d, paths] -> [2L+1 x monomials, paths]: entries of a monomial summed."""
    axes = torch.cartesian_prod(*[torch.arange(d)] * power).view(-1, power)
    _, member = torch.unique(axes.sort(1).values, dim=0, return_inverse=True)
    paths = u.shape[-1]
    flat = u.reshape(-1, d**power, paths)
    summed = torch.zeros(flat.shape[0], int(member.max()) + 1, paths, dtype=u.dtype)
    return summed.index_add(1, member, flat).flatten(0, 1)


@functools.lru_cache(maxsize=64)
def _ours(irreps: str, ir: str, power: int) -> torch.Tensor:
    target = Irreps(irreps)
    d = sum(i.dim for _, i in target)
    return symmetric_part(u_tensors(target, [Irrep(ir)], power)[0], d, power)


def change_of_paths(irreps_in: Irreps, ir: Irrep, power: int, stored: torch.Tensor) -> torch.Tensor:
    """T [our paths, their paths] with their symmetric U = ours T.

    Args:
        irreps_in: of the contraction; its multiplicities do not matter.
        ir: the output irrep.
        power: number of factors.
        stored: the foreign U [(2L+1,) d, ..., d, paths].

    Raises:
        InputError: the stored U is not such a coupling.
    """
    d = sum(i.dim for _, i in irreps_in)
    if stored.numel() % (ir.dim * d**power):
        raise InputError(
            f"a stored U of {list(stored.shape)} does not couple {power} x {irreps_in}"
        )
    ours = _ours(str(irreps_in), str(ir), power)
    theirs = symmetric_part(stored.reshape(ir.dim, *[d] * power, -1), d, power)
    if ours.shape == theirs.shape and torch.allclose(ours, theirs, atol=1e-6):
        return torch.eye(ours.shape[1], dtype=torch.float64)
    change = torch.linalg.lstsq(ours, theirs, driver="gelsd").solution
    error = (ours @ change - theirs).abs().max().item()
    if error > 1e-6:
        raise InputError(
            f"a stored U of power {power} into {ir} is not an equivariant coupling in e3nn's "
            f"basis (left over: {error:.1e})"
        )
    return change
