"""Foreign constants folded into our weights: same numbers, no option in the architecture.

Our blocks divide by sqrt(fan-in) and scale activations by `SILU_NORM`; packages differ in
both (in the fourth digit of the constant, which would show in every test). Each is linear in a
weight beside it, so the weight takes it up, exact to round-off.
"""

from __future__ import annotations

import math

import torch
from e3nn.math import normalize2mom
from e3nn.o3 import Irrep, Irreps

from tpcalc.errors import InputError
from tpcalc.nn.gate import TANH_NORM
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


def e3nn_activation_norm(name: str) -> float:
    """The factor e3nn (0.4 to 0.6) puts on "silu" or "tanh": a seeded sample, not the integral."""
    activation = {"silu": torch.nn.functional.silu, "tanh": torch.tanh}[name]
    return float(normalize2mom(activation).cst)


def gate_gains(silu: float, tanh: float) -> dict[str, float]:
    """Foreign features over ours after a gate: odd scalars went through tanh, the rest SiLU."""
    return {"0o": tanh / TANH_NORM, "": silu / SILU_NORM}


def _gain(gains: dict[str, float], ir: Irrep) -> float:
    return gains.get(str(ir), gains.get("", 1.0))


def linear_weight(
    blocks: list[torch.Tensor],
    irreps_in: Irreps,
    irreps_out: Irreps,
    gains: dict[str, float] | None = None,
) -> torch.Tensor:
    """Flat weight of our `Linear` from e3nn's blocks [in, out] (which divide by sqrt(in)).

    Args:
        blocks: one matrix for each irrep of `irreps_out`, in its order.
        gains: foreign over our input, by irrep ("" for all others).

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
        scale = _gain(gains or {}, ir) / math.sqrt(muls[ir])
        flat.append(block.double().reshape(-1) * scale)
    return torch.cat(flat)


def species_weight(
    flat: torch.Tensor,
    irreps_in: Irreps,
    irreps_out: Irreps,
    num_species: int,
    gains: dict[str, float] | None = None,
) -> torch.Tensor:
    """Flat weight of our `SpeciesLinear` from e3nn's fully connected product with one-hot species.

    e3nn holds [in, species, out] an irrep and divides by sqrt(in * species).

    Raises:
        InputError: the number of weights is another.
    """
    muls = {ir: mul for mul, ir in irreps_in}
    sizes = [muls[ir] * num_species * mul for mul, ir in irreps_out]
    if flat.numel() != sum(sizes):
        raise InputError(
            f"a product {irreps_in} x {num_species}x0e -> {irreps_out} has {sum(sizes)} weights, "
            f"the file holds {flat.numel()}"
        )
    parts = []
    for part, (mul, ir) in zip(torch.split(flat.double().reshape(-1), sizes), irreps_out):
        part = part.reshape(muls[ir], num_species, mul).permute(1, 0, 2)
        scale = _gain(gains or {}, ir) / math.sqrt(muls[ir] * num_species)
        parts.append(part.reshape(-1) * scale)
    return torch.cat(parts)


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
