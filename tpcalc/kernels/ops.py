"""The only door to the compiled ops."""

from __future__ import annotations

import shutil

import torch

from tpcalc.errors import MissingDependency
from tpcalc.kernels.build import build, compiler

LAST_OP = "poly"  # the youngest op: a library that has it has them all


def load_ops(progress: bool = True) -> None:
    """Make the ops of `torch.ops.tpcalc` callable; the first call may compile (a minute).

    `conv`, `conv_bwd`, `conv_radial`, `radial_table`, `poly`, `poly_bwd`. Does nothing where they
    exist: also where the LAMMPS plugin brought them.

    Raises:
        MissingDependency: not built yet and no C++ compiler here.
    """
    if hasattr(torch.ops.tpcalc, LAST_OP):
        return
    torch.ops.load_library(str(build(progress=progress)))


def ops_available() -> bool:
    """Whether `load_ops` can succeed: loaded already, or a compiler is at hand."""
    if hasattr(torch.ops.tpcalc, LAST_OP):
        return True
    try:
        return shutil.which(compiler().split()[0]) is not None
    except MissingDependency:
        return False
