"""Radial distribution function g(r) between two elements in periodic frames."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from ase import Atoms

from tpcalc.errors import InputError


def radial_distribution(
    frames: Iterable[Atoms], first: str, second: str, r_max: float, bins: int = 100
) -> tuple[np.ndarray, np.ndarray]:
    """Mean over frames of the density of `second` around `first`, divided by its mean density.

    Nearest images only, so `r_max` must not exceed half the narrowest width of a cell.

    Args:
        frames: fully periodic structures.
        first, second: chemical symbols, may be the same.
        r_max: Å.
        bins: number of equal shells.

    Returns:
        middles of the shells [bins] (Å), and g [bins] (1 at large r in a liquid).

    Raises:
        InputError: no frame, a frame that is not periodic or too narrow, an absent element, or
            bins below 1.
    """
    if bins < 1:
        raise InputError(f"bins is {bins}; it must be at least 1")
    edges = np.linspace(0.0, r_max, bins + 1)
    shells = 4.0 / 3.0 * np.pi * np.diff(edges**3)
    total, count = np.zeros(bins), 0
    for number, atoms in enumerate(frames):
        total += _one(atoms, first, second, edges, number) / shells
        count += 1
    if count == 0:
        raise InputError("no frame for a radial distribution")
    return 0.5 * (edges[1:] + edges[:-1]), total / count


def _one(atoms: Atoms, first: str, second: str, edges: np.ndarray, number: int) -> np.ndarray:
    """Pairs per shell, divided by what an ideal gas would have in a unit of volume."""
    if not atoms.pbc.all():
        raise InputError(f"frame {number} is not periodic in all directions")
    heights = 1.0 / np.linalg.norm(np.linalg.inv(atoms.cell.array), axis=0)
    if edges[-1] > 0.5 * heights.min() + 1e-9:
        raise InputError(
            f"r_max is {edges[-1]:g} Å; frame {number} allows half its width, "
            f"{0.5 * heights.min():.4f} Å"
        )
    symbols = np.array(atoms.get_chemical_symbols())
    centres, others = np.flatnonzero(symbols == first), np.flatnonzero(symbols == second)
    for name, found in ((first, centres), (second, others)):
        if len(found) == 0:
            raise InputError(f"frame {number} has no atom of {name}")
    scaled = atoms.get_scaled_positions()
    d = scaled[others][None] - scaled[centres][:, None]
    distance = np.linalg.norm((d - np.round(d)) @ atoms.cell.array, axis=-1)
    histogram, _ = np.histogram(distance[distance > 1e-9], bins=edges)
    pairs = len(centres) * (len(others) - (first == second))
    return histogram * atoms.get_volume() / pairs
