"""Foreign constants folded into our weights: same numbers, no option in the architecture.

Our blocks divide by sqrt(fan-in) and scale activations by `SILU_NORM`; packages differ in
both (in the fourth digit of the constant, which would show in every test). Each is linear in a
weight beside it, so the weight takes it up, exact to round-off.
"""

from __future__ import annotations

import math

import torch
from e3nn.o3 import Irreps

from tpcalc.errors import InputError
from tpcalc.nn.radial import SILU_NORM, RadialMLP


def set_parameter(parameter: torch.nn.Parameter, value: torch.Tensor, name: str) -> None:
    """Copy `value` into `parameter`, in its dtype.

    Raises:
        InputError: the sizes differ (a block this architecture does not have).
    """
    if parameter.numel() != value.numel():
        raise InputError(
            f"{name}: the file holds {list(value.shape)} numbers, the architecture "
            f"takes {list(parameter.shape)}; the file's structure is not the one described"
        )
    with torch.no_grad():
        parameter.copy_(value.reshape(parameter.shape))


def set_radial(
    radial: RadialMLP, matrices: list[torch.Tensor], activation_norm: float, scaled: bool
) -> None:
    """Weights [n, m] of a bias-free SiLU network into ours.

    Args:
        radial: ours, which computes silu(x W / sqrt(n)) * SILU_NORM per layer.
        matrices: the foreign ones, in order.
        activation_norm: factor of the foreign activation (1.0 for a plain SiLU).
        scaled: the foreign layers divide by sqrt(fan-in) as well.
    """
    if len(matrices) != len(radial.layers):
        raise InputError(f"radial network of {len(matrices)} layers, {len(radial.layers)} expected")
    for n, (layer, matrix) in enumerate(zip(radial.layers, matrices)):
        factor = 1.0 if scaled else math.sqrt(matrix.shape[0])
        if n > 0:
            factor *= activation_norm / SILU_NORM
        set_parameter(layer.weight, matrix.double() * factor, f"radial layer {n}")


def linear_weight(
    blocks: list[torch.Tensor], irreps_in: Irreps, irreps_out: Irreps, input_scale: float = 1.0
) -> torch.Tensor:
    """Flat weight of our `Linear` from e3nn's blocks [in, out] (which divide by sqrt(in)).

    Args:
        blocks: one matrix for each irrep of `irreps_out`, in its order.
        input_scale: the foreign input is `input_scale` times ours.

    Raises:
        InputError: a block has another size.
    """
    muls = {ir: mul for mul, ir in irreps_in}
    flat = []
    for (mul_out, ir), block in zip(irreps_out, blocks, strict=True):
        if block.numel() != muls[ir] * mul_out:
            raise InputError(
                f"a linear layer {irreps_in} -> {irreps_out} takes {muls[ir]} x {mul_out} numbers "
                f"for {ir}, the file holds {list(block.shape)}"
            )
        scale = input_scale / math.sqrt(muls[ir])
        flat.append(block.double().reshape(muls[ir], mul_out).mul(scale).reshape(-1))
    return torch.cat(flat)


def split_blocks(flat: torch.Tensor, irreps_in: Irreps, irreps_out: Irreps) -> list[torch.Tensor]:
    """e3nn's flat `Linear.weight` as one matrix per irrep of `irreps_out`, in its order.

    Raises:
        InputError: the number of weights is another.
    """
    muls = {ir: mul for mul, ir in irreps_in}
    sizes = [muls[ir] * mul for mul, ir in irreps_out]
    if flat.numel() != sum(sizes):
        raise InputError(
            f"a linear layer {irreps_in} -> {irreps_out} has {sum(sizes)} weights, "
            f"the file holds {flat.numel()}"
        )
    parts = torch.split(flat.reshape(-1), sizes)
    return [part.reshape(muls[ir], mul) for part, (mul, ir) in zip(parts, irreps_out)]
