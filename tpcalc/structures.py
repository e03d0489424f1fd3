"""Reading structures for the runs: any format of ASE, every defect one sentence."""

from __future__ import annotations

from pathlib import Path

import ase.io
from ase import Atoms

from tpcalc.errors import InputError


def read_structures(path, index: str = ":") -> list[Atoms]:
    """The frames `index` (ASE's notation: ":", "-1", "0:10") of a file.

    Raises:
        InputError: no such file, a format ASE cannot read, no frame, or no atoms.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no structure at {path}")
    try:
        frames = ase.io.read(path, index=index)
    except Exception as error:  # ASE's readers raise whatever their format's parser raises
        reason = str(error) or type(error).__name__
        raise InputError(f"{path} (frames {index!r}) cannot be read: {reason}") from error
    frames = [frames] if isinstance(frames, Atoms) else list(frames)
    if not frames:
        raise InputError(f"{path} holds no frame {index!r}")
    for number, atoms in enumerate(frames):
        if len(atoms) == 0:
            raise InputError(f"frame {number} of {path} holds no atoms")
    return frames


def read_structure(path, index: str = "-1") -> Atoms:
    """One frame, the last by default; errors as `read_structures`."""
    return read_structures(path, index)[0]


def bare(atoms: Atoms) -> Atoms:
    """A copy with positions, cell, velocities and constraints, without results or labels."""
    copy = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    copy.set_constraint(atoms.constraints)
    if atoms.has("momenta"):
        copy.set_momenta(atoms.get_momenta())
    return copy
