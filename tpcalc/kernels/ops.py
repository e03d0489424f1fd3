"""The only door to the compiled ops."""

from __future__ import annotations

import shutil

import torch

from tpcalc.errors import MissingDependency
from tpcalc.kernels.build import build, compiler

LAST_OP = "weight_products"  # the youngest op: a library that has it has them all


def load_ops(progress: bool = True) -> None:
    """Make the ops of `torch.ops.tpcalc` callable; the first call may compile (a minute).

    `conv`, `conv_bwd`, `conv_radial`, `conv_radial_bwd`, `radial_table`, `poly`, `poly_bwd`,
    `linear`, `linear_weight`, `mlp`, `gate`, `harmonics`, `bessel`, `edges_within`, `edge_sums`,
    `weight_products`.
    Does nothing where they exist: also where the LAMMPS plugin brought them.

    Raises:
        MissingDependency: not built yet and no C++ compiler here.
    """
    if ops_loaded():
        return
    torch.ops.load_library(str(build(progress=progress)))


def ops_loaded() -> bool:
    """Whether the ops can be called now."""
    return hasattr(torch.ops.tpcalc, LAST_OP)


def use_ops(module: torch.nn.Module, wanted: bool) -> None:
    """Let layers, networks, gates, what edges are in `module` run as compiled ops, or not.

    Networks do so with the fused variants; numbers differ by round-off alone. Only CPU tensors
    take the ops.

    Raises:
        MissingDependency: as `load_ops`.
    """
    if wanted:
        load_ops()
    for part in module.modules():
        if hasattr(part, "as_op"):
            part.as_op = wanted


def ops_available() -> bool:
    """Whether `load_ops` can succeed: loaded already, or a compiler is at hand."""
    if ops_loaded():
        return True
    try:
        return shutil.which(compiler().split()[0]) is not None
    except MissingDependency:
        return False


def load_cuda_ops() -> None:
    """Give convolutions, `radial_table` and `poly` their CUDA kernels; the first call compiles.

    Raises:
        MissingDependency: no nvcc or no C++ compiler here.
    """
    load_ops()
    if not torch._C._dispatch_has_kernel_for_dispatch_key("tpcalc::conv", "CUDA"):
        from tpcalc.kernels.build_cuda import build_cuda

        torch.ops.load_library(str(build_cuda()))
