"""Interactability: which triples of irreps a function can couple at all."""

from __future__ import annotations

from pathlib import Path

import torch
from e3nn.o3 import Irrep

from tpcalc.errors import InputError, MissingDependency, check_name
from tpcalc.tensor_products import VARIANTS, functions, tensor_product


def couples(function: str, ir1: str, ir2: str, ir3: str) -> bool:
    """Whether some weights of the function make ir1 x ir2 -> ir3 non-zero.

    Raises:
        InputError: unknown function, or an irrep that cannot be read.
    """
    check_name("function", function, functions())
    if Irrep(ir3) not in Irrep(ir1) * Irrep(ir2):
        return False
    name = f"{function}/reference"
    try:
        product = tensor_product(name, f"1x{ir1}", f"1x{ir2}", f"1x{ir3}")
    except InputError as error:
        if "no path leads" in str(error):
            return False
        raise
    generator = torch.Generator().manual_seed(0)
    w = torch.randn(product.weight_numel, generator=generator, dtype=torch.float64)
    return bool(product.materialize(w).abs().max() > 1e-10)


def interactability(function: str, lmax: int = 3) -> list[dict]:
    """Every triple with degrees <= lmax and p1 p2 = p3: {"ir1", "ir2", "ir3", "couples"}."""
    rows = []
    irreps = [Irrep(l, p) for l in range(lmax + 1) for p in (1, -1)]
    for ir1 in irreps:
        for ir2 in irreps:
            for ir3 in ir1 * ir2:
                if ir3.l <= lmax:
                    found = couples(function, str(ir1), str(ir2), str(ir3))
                    rows.append(
                        {"ir1": str(ir1), "ir2": str(ir2), "ir3": str(ir3), "couples": found}
                    )
    return rows


def picture(path: str | Path, lmax: int = 3) -> Path:
    """One panel a function: natural-parity (l1, l2) against l3 of either parity.

    Raises:
        MissingDependency: matplotlib is absent.
    """
    try:
        from matplotlib import pyplot
    except ModuleNotFoundError as error:
        raise MissingDependency(
            "the picture needs matplotlib: pip install 'tpcalc[report]'"
        ) from error
    names = [f for f in functions() if f"{f}/reference" in VARIANTS]
    figure, axes = pyplot.subplots(1, len(names), figsize=(2.1 * len(names), 4.2), sharey=True)
    natural = [f"{l}{'eo'[l % 2]}" for l in range(lmax + 1)]
    pairs = [(a, b) for a in natural for b in natural]
    outs = [str(Irrep(l, p)) for l in range(lmax + 1) for p in ((-1) ** l, -((-1) ** l))]
    for axis, function in zip(axes, names):
        for row, (a, b) in enumerate(pairs):
            for column, c in enumerate(outs):
                if Irrep(c) in Irrep(a) * Irrep(b):
                    # filled and open, so that the picture can be read without colour
                    filled = couples(function, a, b, c)
                    axis.plot(column, row, "o", markersize=4, color="tab:blue" if filled else "0.6",
                              fillstyle="full" if filled else "none")  # fmt: skip
        axis.set_title(function)
        axis.set_xticks(range(len(outs)), outs, fontsize=7)
        axis.set_xlabel("output")
    axes[0].set_yticks(range(len(pairs)), [f"{a} x {b}" for a, b in pairs], fontsize=7)
    axes[0].invert_yaxis()
    figure.suptitle("allowed triples a function couples (filled) and misses (open)")
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
    return Path(path)
