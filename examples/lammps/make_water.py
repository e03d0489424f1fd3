"""Makes water.data and ../water.xyz: 64 molecules in a cube, equilibrated with our potential.

    python examples/lammps/make_water.py models/water-cg/potential.safetensors [--steps 2000]

Molecules stand on a grid, turned so that hydrogens point to free oxygens; then LBFGS takes out
what is left of bad contacts, and Langevin dynamics at 330 K runs for `steps` of 0.5 fs. No
published frame is used.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.build import molecule
from ase.optimize import LBFGS
from tpcalc import TPCalculator
from tpcalc.lammps.deck import write_data
from tpcalc.md import MDSettings, run_md
from tpcalc.structures import bare

SIDE = 12.4447  # Å, 0.993 g/cm³: the box of the training data
CHARGES = np.array([-0.8, 0.4, 0.4])  # e, for the orientations only
GRID = 4


def energy_of(one: np.ndarray, others: np.ndarray) -> float:
    """Coulomb energy of a molecule [3, 3] with others [n, 3, 3], nearest images; no unit."""
    d = others[:, None] - one[None, :, None]
    d -= SIDE * np.round(d / SIDE)
    r = np.linalg.norm(d, axis=-1)
    return float((CHARGES[:, None] * CHARGES / r + 0.2 * (1.4 / r) ** 9).sum())


def draw(seed: int = 0, sweeps: int = 40) -> Atoms:
    """The grid of molecules; every sweep offers each one a random turn and keeps the better."""
    rng = np.random.default_rng(seed)
    water = molecule("H2O").positions  # O, H, H
    water = water - water[0]

    def turned() -> np.ndarray:
        q, r = np.linalg.qr(rng.normal(size=(3, 3)))
        return water @ (q * np.sign(np.diag(r)))

    grid = (np.array(list(np.ndindex(GRID, GRID, GRID))) + 0.5) * SIDE / GRID
    molecules = np.array([centre + turned() for centre in grid])
    for _ in range(sweeps):
        for k, centre in enumerate(grid):
            others = np.delete(molecules, k, axis=0)
            trial = centre + turned()
            if energy_of(trial, others) < energy_of(molecules[k], others):
                molecules[k] = trial
    return Atoms("OH2" * len(grid), molecules.reshape(-1, 3), cell=[SIDE] * 3, pbc=True)


def main(arguments: list[str] | None = None) -> None:
    """Draw, relax, equilibrate, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("potential", help="NAME.safetensors for H and O")
    parser.add_argument("--steps", type=int, default=2000, help="of 0.5 fs (2000)")
    parser.add_argument("--out", default=str(Path(__file__).with_name("water.data")))
    structure = Path(__file__).parents[1] / "water.xyz"
    parser.add_argument("--structure", default=str(structure), help="extended XYZ of the same")
    args = parser.parse_args(arguments)
    atoms = draw()
    atoms.calc = TPCalculator(args.potential, radial="spline")
    LBFGS(atoms, logfile=None).run(fmax=0.5, steps=50)
    settings = MDSettings(steps=args.steps, ensemble="nvt", temperature=330.0, friction=0.02)
    summary = run_md(atoms, settings)
    write_data(bare(atoms), args.out, ["H", "O"])
    ase.io.write(args.structure, bare(atoms), format="extxyz")
    print(f"{args.out}: {len(atoms)} atoms, {summary['temperature_K']:.0f} K")


if __name__ == "__main__":
    main()
