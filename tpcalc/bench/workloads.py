"""Systems to time: named ones, or any file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk, molecule

from tpcalc.errors import InputError, check_name
from tpcalc.structures import bare, read_structure

REPOSITORY = Path(__file__).parents[2]
EXAMPLE_3BPA = REPOSITORY / "examples" / "3bpa.xyz"
DEMO_POTENTIALS = ("3bpa-cg", "3bpa-shared", "3bpa-gaunt")


def molecule_3bpa(size: int) -> Atoms:
    """`size` copies of 3BPA, 27 atoms each, in a row 12 Å apart; no cell."""
    if not EXAMPLE_3BPA.is_file():
        raise InputError(f"{EXAMPLE_3BPA} is not there; run from a clone of the repository")
    one = bare(read_structure(EXAMPLE_3BPA))
    atoms = one.copy()
    for n in range(1, size):
        other = one.copy()
        other.positions[:, 2] += 12.0 * n
        atoms += other
    return atoms


def water_box(size: int) -> Atoms:
    """`size` water molecules at 1 g/cm³, cubic grid, seeded orientations; periodic."""
    side = round(np.ceil(size ** (1 / 3)))
    spacing = 3.1045  # Å, (29.92 Å³ per molecule)^(1/3)
    rng = np.random.default_rng(0)
    atoms = Atoms()
    for n in range(size):
        one = molecule("H2O")
        one.rotate(rng.uniform(0, 360), rng.normal(size=3), center="COM")
        cell = np.array([n // side**2, n // side % side, n % side])
        one.positions += (cell + 0.5) * spacing - one.get_center_of_mass()
        atoms += one
    atoms.set_cell([side * spacing] * 3)
    atoms.pbc = True
    return atoms


def silicon(size: int) -> Atoms:
    """Diamond silicon, `size` cubic cells a side (8 atoms each), atoms moved by 0.05 Å."""
    atoms = bulk("Si", cubic=True) * (size, size, size)
    atoms.positions += np.random.default_rng(0).normal(scale=0.05, size=(len(atoms), 3))
    return atoms


# name -> maker(size) and the size where none is given
WORKLOADS: dict[str, tuple[Callable[[int], Atoms], int]] = {
    "3bpa": (molecule_3bpa, 1),
    "water": (water_box, 64),
    "silicon": (silicon, 3),
}


def workload(name: str) -> Atoms:
    """A system by name ("3bpa", "water:216", "silicon:4") or the last frame of a file.

    Raises:
        InputError: neither a file nor a known name, or a size that is no positive number.
    """
    if Path(name).is_file():
        return bare(read_structure(name))
    kind, _, size = name.partition(":")
    check_name("system (no such file either)", kind, WORKLOADS)
    make, default = WORKLOADS[kind]
    if size and (not size.isdigit() or int(size) < 1):
        raise InputError(f"system {name!r}: size {size!r} is not a whole number >= 1")
    return make(int(size) if size else default)


def demo_potentials() -> dict[str, Path]:
    """Name -> file of the potentials that ship with the repository, those that are there.

    Raises:
        InputError: none is there.
    """
    files = {n: REPOSITORY / "models" / n / "potential.safetensors" for n in DEMO_POTENTIALS}
    found = {name: path for name, path in files.items() if path.is_file()}
    if not found:
        raise InputError(
            f"no potential below {REPOSITORY / 'models'} ({', '.join(files)}); "
            "run from a clone of the repository"
        )
    return found
