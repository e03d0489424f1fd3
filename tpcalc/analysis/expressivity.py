"""Expressivity: how many independent bilinear maps a tensor product can be."""

from __future__ import annotations

from collections import Counter

import torch
from e3nn.o3 import Irreps

from tpcalc.errors import InputError, check_name
from tpcalc.tensor_products import tensor_product
from tpcalc.tensor_products.base import TensorProduct

SETTINGS = ("SISO", "SIMO", "MIMO")
PARITIES = ("natural", "both", "none")


def setting_irreps(setting: str, lmax: int, parity: str = "natural") -> tuple[str, str, str]:
    """Irreps of in1, in2, out in the settings of *The Price of Freedom*.

    SISO: L x L -> L; SIMO: L x L -> 0..2L; MIMO: 0..L x 0..L -> 0..2L. `parity` "natural": every
    irrep has p = (-1)^l; "both": outputs of either parity too; "none": all labelled even, which
    is SO(3) alone.

    Raises:
        InputError: unknown setting or parity, or a degree below 1.
    """
    check_name("setting", setting, SETTINGS)
    check_name("parity", parity, PARITIES)
    if lmax < 1:
        raise InputError(f"degree {lmax}; it must be at least 1")
    ins = [lmax] if setting != "MIMO" else range(lmax + 1)
    outs = [lmax] if setting == "SISO" else range(2 * lmax + 1)

    def text(degrees, both=False):
        letters = {l: "eo"[l % 2] if parity != "none" else "e" for l in degrees}
        return "+".join(
            f"1x{l}{p}" for l in degrees for p in ("eo" if both else letters[l])
        )  # fmt: skip

    return text(ins), text(ins), text(outs, both=parity == "both")


def jacobian_rank(product: TensorProduct, seed: int = 0, tolerance: float = 1e-9) -> int:
    """Generic rank of d(bilinear map)/d(weights): the dimension of the family of maps.

    The map is seen through random inputs, more than there are paths to one output, so nothing
    of it is lost; the rank is counted at random weights in float64. Unit differences are exact
    derivatives: no function holds a single weight to a power above two.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    into = Counter(p.out for p in product.paths)
    samples = 3 + max(-(-n // product.irreps_out[out].ir.dim) for out, n in into.items())
    x, y = normal(samples, product.irreps_in1.dim), normal(samples, product.irreps_in2.dim)
    w, unit = normal(product.weight_numel), torch.eye(product.weight_numel, dtype=torch.float64)
    above, below = (product(x, y, (w + sign * unit).unsqueeze(1)) for sign in (1, -1))
    values = torch.linalg.svdvals((above - below).flatten(1) / 2)
    return int((values > tolerance * values[0]).sum())


def expressivity(variant: str, setting: str, lmax: int, parity: str = "natural") -> int:
    """`jacobian_rank` in a setting; 0 where no path exists."""
    in1, in2, out = setting_irreps(setting, lmax, parity)
    # SISO and the like may leave nothing to compute: that is an answer here, not an error
    try:
        product = tensor_product(variant, Irreps(in1), Irreps(in2), Irreps(out))
    except InputError as error:
        if "no path leads" in str(error):
            return 0
        raise
    return jacobian_rank(product)


ROWS = (  # name, variant, parity
    ("cg, all paths", "cg/sparse", "both"),
    ("cg, natural parity", "cg/sparse", "natural"),
    ("shared, natural parity", "shared/reference", "natural"),
    ("gaunt", "gaunt/grid", "natural"),
    ("gaunt:2", "gaunt:2/grid", "natural"),
    ("gaunt_full, all paths", "gaunt_full/grid", "both"),
    ("matrix, one parity block", "matrix/matmul", "none"),
    ("matrix, all paths", "matrix/matmul", "both"),
    ("vector, all paths", "vector/grid", "both"),
)


def expressivity_table(setting: str = "MIMO", largest: int = 5, progress=None) -> list[dict]:
    """One row a function: its rank at L = 1..largest. `progress` is called with each row's name."""
    table = []
    for name, variant, parity in ROWS:
        if progress:
            progress(name)
        ranks = [expressivity(variant, setting, l, parity) for l in range(1, largest + 1)]
        table.append({"name": name, "setting": setting, "ranks": ranks})
    return table
