"""Makes a small training set of our own: snapshots of molecules, labelled by GFN2-xTB.

    python -m tpcalc.train.xtb OUT.xyz          # needs tblite: pip install 'tpcalc[labels]'
    python -m tpcalc.train.xtb OUT.xyz --structures md.xyz ...   # labels for your own frames

Geometries of `ase.build.molecule` run Langevin dynamics at each temperature; positions are
rounded to what the file holds before they are labelled, so labels and positions belong
together. Isolated atoms come first. The seed fixes the run on one machine; on another, chaos
makes other snapshots of the same distribution.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms, units
from ase.build import molecule
from ase.md.langevin import Langevin

from tpcalc.errors import InputError, MissingDependency
from tpcalc.progress import progress

MOLECULES = {
    "methanol": "CH3OH",
    "ethanol": "CH3CH2OH",
    "formic_acid": "HCOOH",
    "acetamide": "CH3CONH2",
}  # config_type -> name in ASE's G2 set
TEMPERATURES = (300, 600)  # K
TIMESTEP = 1.0  # fs
FIRST, EVERY = 100, 20  # steps before the first snapshot, and between two
DECIMALS = {"positions": 5, "energy": 6, "forces": 5}  # Å, eV, eV/Å


def make_set(frames: int = 200, seed: int = 0) -> list[Atoms]:
    """Labelled isolated atoms and `frames` snapshots in random order, as many from each run.

    Returns:
        Structures with info `REF_energy` (eV), `config_type`, arrays `REF_forces` (eV/Å).

    Raises:
        InputError: `frames` cannot be shared by the runs.
        MissingDependency: tblite is absent.
    """
    runs = [(name, t) for name in MOLECULES for t in TEMPERATURES]
    if frames < 1 or frames % len(runs):
        raise InputError(f"frames is {frames}; it must be a multiple of the {len(runs)} runs")
    share = frames // len(runs)
    rng = np.random.default_rng(seed)
    found = []
    with progress(len(runs) * share, "xtb", "frame") as bar:
        for name, temperature in runs:
            for positions, atoms in _snapshots(name, temperature, share, rng):
                found.append(_labelled(atoms.symbols, positions, f"{name}_{temperature}K"))
                bar.update()
    return isolated_atoms(found) + [found[i] for i in rng.permutation(len(found))]


def label_structures(paths: list[Path]) -> list[Atoms]:
    """Labelled isolated atoms, then every frame of every file in order (molecules).

    Raises:
        InputError: a file is absent or holds a periodic structure.
        MissingDependency: tblite is absent.
    """
    frames = []
    for path in paths:
        if not path.is_file():
            raise InputError(f"no structures at {path}")
        frames += [(path.stem, atoms) for atoms in ase.io.read(path, ":")]
    if any(atoms.pbc.any() for _, atoms in frames):
        raise InputError("a structure is periodic; the labels are those of molecules in vacuum")
    found = []
    with progress(len(frames), "xtb", "frame") as bar:
        for kind, atoms in frames:
            found.append(_labelled(atoms.symbols, _as_written(atoms.positions), kind))
            bar.update()
    return isolated_atoms(found) + found


def isolated_atoms(frames: list[Atoms]) -> list[Atoms]:
    """One labelled atom of each element in `frames`."""
    symbols = sorted({s for atoms in frames for s in atoms.get_chemical_symbols()})
    return [_labelled([s], np.zeros((1, 3)), "isolated") for s in symbols]


def calculator():
    """GFN2-xTB, silent, with tighter self-consistency than its default.

    Raises:
        MissingDependency: tblite is absent.
    """
    try:
        from tblite.ase import TBLite
    except ImportError as error:
        raise MissingDependency(
            "the labels need tblite; pip install 'tpcalc[labels]' (or pip install tblite)"
        ) from error
    return TBLite(method="GFN2-xTB", accuracy=0.1, verbosity=0)


def write_set(frames: list[Atoms], path: Path) -> None:
    """Extended XYZ with as many digits as `DECIMALS` says; whole or not at all."""
    lines = []
    for atoms in frames:
        energy = f"{atoms.info['REF_energy']:.{DECIMALS['energy']}f}"
        lines += [
            str(len(atoms)),
            "Properties=species:S:1:pos:R:3:REF_forces:R:3 "
            f'REF_energy={energy} config_type={atoms.info["config_type"]} pbc="F F F"',
        ]
        for atom, forces in zip(atoms, atoms.arrays["REF_forces"]):
            forces = forces.round(DECIMALS["forces"]) + 0.0  # no -0
            numbers = [f"{x:.{DECIMALS['positions']}f}" for x in atom.position + 0.0]
            numbers += [f"{x:.{DECIMALS['forces']}f}" for x in forces]
            lines.append(f"{atom.symbol} {' '.join(numbers)}")
    temporary = path.with_name(path.name + ".part")
    temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def _snapshots(name: str, temperature: int, count: int, rng: np.random.Generator):
    """Yield positions [n, 3] (Å, rounded) and the molecule of one trajectory."""
    atoms = molecule(MOLECULES[name])
    atoms.calc = calculator()
    spread = np.sqrt(atoms.get_masses() * units.kB * temperature)
    atoms.set_momenta(rng.normal(size=(len(atoms), 3)) * spread[:, None])
    dynamics = Langevin(
        atoms, TIMESTEP * units.fs, temperature_K=temperature, friction=0.02 / units.fs,
        fixcm=False, rng=rng,
    )  # fmt: skip
    dynamics.run(FIRST)
    for _ in range(count):
        dynamics.run(EVERY)
        yield _as_written(atoms.positions), atoms


def _as_written(positions: np.ndarray) -> np.ndarray:
    """Centred, with the digits that the file will hold."""
    return (positions - positions.mean(axis=0)).round(DECIMALS["positions"])


def _labelled(symbols, positions: np.ndarray, config_type: str) -> Atoms:
    atoms = Atoms(symbols, positions, calculator=calculator())
    energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    atoms.calc = None
    atoms.info = {"REF_energy": float(energy), "config_type": config_type}
    atoms.arrays["REF_forces"] = forces
    return atoms


def main() -> None:
    """Make the set and write it."""
    parser = argparse.ArgumentParser(prog="python -m tpcalc.train.xtb", description=__doc__)
    parser.add_argument("out", type=Path, help="extended XYZ to write")
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--structures", type=Path, nargs="+", help="label these frames instead")
    args = parser.parse_args()
    # read when tblite's OpenMP is loaded: threads cost more than they give on 10 atoms
    os.environ["OMP_NUM_THREADS"] = "1"
    if not args.out.parent.is_dir():
        raise SystemExit(f"no folder {args.out.parent} to write {args.out.name} into")
    try:
        if args.structures:
            frames = label_structures(args.structures)
        else:
            frames = make_set(args.frames, args.seed)
    except (InputError, MissingDependency) as error:
        print(f"tpcalc.train.xtb: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    write_set(frames, args.out)
    print(f"{len(frames)} structures written to {args.out}")


if __name__ == "__main__":
    main()
