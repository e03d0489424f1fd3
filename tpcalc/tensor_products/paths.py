"""Which irreps couple to which: the canonical list of paths of a product."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from e3nn.o3 import Irrep, Irreps, wigner_3j

from tpcalc.errors import InputError


class Path(NamedTuple):
    """One coupling (l1, l2, l3). Indices count the entries of the three `Irreps`."""

    in1: int
    in2: int
    out: int
    l1: int
    l2: int
    l3: int
    mul: int  # channels of this path
    offset_out: int  # first channel of this path inside its output block


def natural_irreps(lmax: int, channels: int = 1) -> str:
    """0e + 1o + 2e + ... up to degree `lmax`, each with the same multiplicity."""
    return "+".join(f"{channels}x{l}{'eo'[l % 2]}" for l in range(lmax + 1))


def as_irreps(irreps: str | Irreps) -> Irreps:
    """Parse irreps; empty entries (0x1o) are dropped.

    Raises:
        InputError: the string is not in e3nn's notation.
    """
    try:
        parsed = Irreps(irreps)
    except (ValueError, AssertionError, TypeError) as error:
        raise InputError(
            f"irreps {irreps!r} cannot be read; write them as e3nn does, e.g. '16x0e+16x1o'"
        ) from error
    return Irreps([(mul, ir) for mul, ir in parsed if mul > 0])


def channel_mode(irreps_in1: Irreps, irreps_in2: Irreps) -> str:
    """'uvu' where the second operand has one channel, else 'uuu' (channel by channel).

    Raises:
        InputError: the second operand has other multiplicities than 1 or the first operand's.
    """
    if all(mul == 1 for mul, _ in irreps_in2):
        return "uvu"
    muls = {mul for mul, _ in irreps_in1} | {mul for mul, _ in irreps_in2}
    if len(muls) != 1:
        raise InputError(
            f"cannot pair the channels of {irreps_in1} with those of {irreps_in2}; the second "
            "operand needs multiplicity 1 throughout, or both operands one common multiplicity"
        )
    return "uuu"


def kept_irreps(irreps_in1: Irreps, irreps_out: Irreps | None) -> set[Irrep] | int:
    """The output irreps that are kept, or the largest degree where none are named."""
    if irreps_out is not None:
        return {ir for _, ir in irreps_out}
    return max((ir.l for _, ir in irreps_in1), default=0)


def enumerate_paths(
    irreps_in1: Irreps,
    irreps_in2: Irreps,
    irreps_out: Irreps | None = None,
    even_only: bool = False,
    merge: bool = False,
) -> tuple[list[Path], Irreps]:
    """All allowed paths in canonical order, and the output irreps they make.

    Order: output irrep, then irrep of operand 1, then of operand 2 (e3nn's order of irreps).
    `irreps_out` names the irreps to keep (its multiplicities do not matter); None keeps every
    degree up to the largest of operand 1. `even_only` drops odd l1+l2+l3 (Gaunt). With `merge`
    all paths into one output irrep share its channels, otherwise each has its own.

    Raises:
        InputError: no path is left, or (merge) multiplicities differ between degrees.
    """
    keep = kept_irreps(irreps_in1, irreps_out)
    found = []
    for i1, (mul1, ir1) in enumerate(irreps_in1):
        for i2, (_, ir2) in enumerate(irreps_in2):
            for ir3 in ir1 * ir2:
                if even_only and (ir1.l + ir2.l + ir3.l) % 2:
                    continue
                if (ir3.l <= keep) if isinstance(keep, int) else (ir3 in keep):
                    found.append((ir3, ir1, ir2, i1, i2, mul1))
    if not found:
        raise InputError(
            f"no path leads from {irreps_in1} x {irreps_in2} to "
            f"{irreps_out if irreps_out is not None else f'degrees up to {keep}'}"
        )
    found.sort()
    if merge and len({f[5] for f in found}) != 1:
        raise InputError(
            f"{irreps_in1} has different multiplicities; products that sum their paths need one "
            "multiplicity for all degrees (the function 'cg' takes any)"
        )
    paths: list[Path] = []
    blocks: list[tuple[int, Irrep]] = []
    for ir3, ir1, ir2, i1, i2, mul in found:
        if not blocks or blocks[-1][1] != ir3:
            blocks.append((0, ir3))
        offset = 0 if merge else blocks[-1][0]
        blocks[-1] = (mul if merge else offset + mul, ir3)
        paths.append(Path(i1, i2, len(blocks) - 1, ir1.l, ir2.l, ir3.l, mul, offset))
    return paths, Irreps(blocks)


def coupling_tables(paths: list[Path]) -> list[torch.Tensor]:
    """sqrt(2 l3 + 1) C^{l1 l2 l3} of each path, float64."""
    return [
        wigner_3j(p.l1, p.l2, p.l3, dtype=torch.float64) * math.sqrt(2 * p.l3 + 1) for p in paths
    ]
