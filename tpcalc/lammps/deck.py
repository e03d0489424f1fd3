"""Decks and data files from a structure."""

from __future__ import annotations

from pathlib import Path

from ase import Atoms
from ase.io import write

MARGIN = 10.0  # Å of vacuum around what is not periodic


def write_data(atoms: Atoms, path: str | Path, species: list[str]) -> str:
    """Write a LAMMPS data file (atom_style atomic, units metal), types in the order of `species`.

    Directions that are not periodic get `MARGIN` on both sides of the atoms.

    Returns:
        The word of LAMMPS' `boundary` command, e.g. "p p f".
    """
    atoms = atoms.copy()
    cell = atoms.cell.array.copy()
    for k in range(3):
        if atoms.pbc[k]:
            continue
        low, high = atoms.positions[:, k].min(), atoms.positions[:, k].max()
        cell[k] = 0.0
        cell[k, k] = high - low + 2 * MARGIN
        atoms.positions[:, k] += MARGIN - low
    atoms.set_cell(cell)
    write(
        path, atoms, format="lammps-data", specorder=species, masses=True,
        velocities=atoms.has("momenta"),
    )  # fmt: skip
    return " ".join("p" if periodic else "f" for periodic in atoms.pbc)


def md_deck(
    exported: str | Path,
    species: list[str],
    boundary: str,
    steps: int,
    warm_up: int = 20,
    timestep: float = 0.5,
    temperature: float = 300.0,
    skin: float = 1.0,
    seed: int = 4711,
    forces: str | None = None,
) -> str:
    """NVE dynamics of atoms.data: `warm_up` steps, then `steps` that a benchmark counts.

    Args:
        exported: NAME.pt of `tpcalc export`.
        species: element of each type of the data file.
        timestep: fs. temperature: K, of the start. skin: Å.
        forces: a file for the forces of the start.
    """
    dump = undump = ""
    if forces is not None:
        dump = f"dump forces all custom {warm_up + 1} {forces} id fx fy fz\n"
        dump += 'dump_modify forces format float "%.12g"\n'
        undump = "undump forces\n"
    return (
        f"units metal\nboundary {boundary}\natom_style atomic\nread_data atoms.data\n"
        f"pair_style tpcalc\npair_coeff * * {Path(exported).resolve()} {' '.join(species)}\n"
        f"neighbor {skin} bin\nneigh_modify every 1 delay 0 check yes\n"
        f"velocity all create {temperature} {seed} mom yes rot yes loop geom\n"
        f"timestep {timestep * 1e-3}\nfix nve all nve\nthermo {max(1, steps // 10)}\n"
        "thermo_style custom step pe ke etotal\nthermo_modify format float %.15g\n"
        f"{dump}run {warm_up}\n{undump}run {steps}\ninfo out log memory\n"
    )
