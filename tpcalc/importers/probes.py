"""Structures on which an import is compared with its original, and their results as plain data."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.build import fcc111, molecule
from ase.data import atomic_numbers, covalent_radii

_USUAL = ("H", "C", "O", "N", "Si", "Cu")  # take part where they are known, before all others
_SPACING = 2.8  # Å between the atoms of "elements"


def probe_structures(species: list[str], cutoff: float) -> dict[str, Atoms]:
    """Structures of the shapes that importers get wrong, of elements the potential knows; seeded.

    A molecule, a periodic box of water, a triclinic crystal, a surface with an adsorbate
    (periodic in the plane), every element once, an isolated atom, two atoms out of reach, and a
    pair close enough for any repulsion.
    """
    rng = np.random.default_rng(0)
    symbols = [s for s in _USUAL if s in species] + [s for s in species if s not in _USUAL]
    first, second = symbols[0], symbols[min(2, len(symbols) - 1)]
    ethanol, water = _rattled(molecule("CH3CH2OH"), rng), _water(rng)
    surface = _surface(symbols[-1] if len(symbols) < 5 else symbols[5 % len(symbols)], rng)
    return {
        "molecule": _known(ethanol, symbols),
        "water": _known(water, symbols),
        "crystal": _crystal(first, second, rng),
        "surface": _known(surface, symbols),
        "elements": _every(symbols, rng),
        "atom": Atoms([first]),
        "out of reach": Atoms([first, second], [[0, 0, 0], [0, 0, cutoff + 0.5]]),
        "close pair": Atoms([first, second], [[0, 0, 0], [0, 0.3, 0.6 * _bond(first, second)]]),
    }


def _bond(*symbols: str) -> float:
    return sum(covalent_radii[atomic_numbers[s]] for s in symbols)


def _rattled(atoms: Atoms, rng, size: float = 0.05) -> Atoms:
    atoms.positions += rng.normal(scale=size, size=atoms.positions.shape)
    return atoms


def _water(rng) -> Atoms:
    """Eight molecules at the density of water, randomly turned."""
    box = Atoms(cell=[6.2] * 3, pbc=True)
    for place in np.ndindex(2, 2, 2):
        one = molecule("H2O")
        one.rotate(rng.uniform(0, 360), rng.normal(size=3))
        one.positions += 3.1 * np.array(place) + 1.5
        box += one
    return _rattled(box, rng)


def _crystal(first: str, second: str, rng) -> Atoms:
    """Rock salt, sheared to a triclinic cell."""
    a = max(2.6 * _bond(first, second), 4.0)
    cell = a * np.array([[1.0, 0.0, 0.0], [0.1, 1.02, 0.0], [-0.05, 0.08, 0.97]])
    places = [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0],
              [0.5, 0, 0], [0.5, 0.5, 0.5], [0, 0, 0.5], [0, 0.5, 0]]  # fmt: skip
    crystal = Atoms([first] * 4 + [second] * 4, scaled_positions=places, cell=cell, pbc=True)
    return _rattled(crystal, rng)


def _surface(metal: str, rng) -> Atoms:
    """Two layers, a water molecule above."""
    slab = fcc111(metal, (2, 2, 2), a=2**0.5 * max(2.1 * _bond(metal), 2.4), vacuum=4.0)
    one = molecule("H2O")
    one.positions += slab.positions[-1] + [0.2, 0.4, _bond(metal, "O") + 0.4] - one.positions[0]
    return _rattled(slab + one, rng)


def _every(symbols: list[str], rng) -> Atoms:
    side = int(np.ceil(len(symbols) ** (1 / 3)))
    places = np.array(list(np.ndindex(side, side, side)))[: len(symbols)]
    return _rattled(Atoms(symbols, _SPACING * places), rng, 0.1)


def _known(atoms: Atoms, symbols: list[str]) -> Atoms:
    """Other elements for those unknown, and distances that suit them."""
    wanted = dict.fromkeys(atoms.get_chemical_symbols())
    free = [s for s in symbols if s not in wanted] or symbols
    swap = {s: s if s in symbols else free[n % len(free)] for n, s in enumerate(wanted)}
    factor = max(_bond(new) / _bond(old) for old, new in swap.items())
    known = atoms.copy()
    known.set_chemical_symbols([swap[s] for s in atoms.get_chemical_symbols()])
    known.set_cell(atoms.cell * factor)
    known.positions = atoms.positions * factor
    return known


def as_plain(atoms: Atoms) -> dict:
    """Numbers, positions, cell, pbc as lists."""
    return {
        "numbers": atoms.numbers.tolist(),
        "positions": atoms.positions.tolist(),
        "cell": atoms.cell.array.tolist(),
        "pbc": atoms.pbc.tolist(),
    }


def golden(name: str, atoms: Atoms, result: dict) -> dict:
    """A structure with its energy (eV), forces (eV/Å) and stress (eV/Å^3) as plain data."""
    kept = {k: np.asarray(result[k]).tolist() for k in ("forces", "stress") if k in result}
    return {"name": name, **as_plain(atoms), "energy": float(result["energy"]), **kept}
