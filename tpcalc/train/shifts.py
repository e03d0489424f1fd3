"""Energy shift of each species and the energy scale, from the training set."""

from __future__ import annotations

import numpy as np

from tpcalc.errors import InputError
from tpcalc.train.config import BaselineConfig
from tpcalc.train.data import Frame


def isolated_energies(frames: list[Frame]) -> dict[str, float]:
    """Energy of each element (eV) from one-atom frames without neighbours."""
    found = {}
    for frame in frames:
        if len(frame.symbols) == 1 and frame.energy is not None:
            found[frame.symbols[0]] = frame.energy
    return found


def energy_shifts(
    frames: list[Frame], species: list[str], isolated: dict[str, float], method: str
) -> list[float]:
    """Energy shift (eV) per entry of `species`.

    `isolated`: the isolated-atom energies as they are. `least_squares`: those (zero where
    absent) plus the smallest correction per species that fits the total energies; the energy
    of an atom without neighbours is then no longer the isolated one.

    Raises:
        InputError: `isolated` asked and a species has no isolated-atom energy.
    """
    absent = [name for name in species if name not in isolated]
    if method == "isolated" and absent:
        raise InputError(
            f"no isolated-atom energy for {', '.join(absent)} (found: "
            f"{', '.join(isolated) or 'none'}); name a file with one-atom frames in "
            "data.isolated_atoms, or set baseline.shifts: least_squares"
        )
    start = np.array([isolated.get(name, 0.0) for name in species])
    if method == "isolated":
        return start.tolist()
    counts, energies = _composition(frames, species)
    # minimum-norm: one composition alone still gives a sensible, unique answer
    correction = np.linalg.lstsq(counts, energies - counts @ start, rcond=None)[0]
    return (start + correction).tolist()


def energy_scale(
    frames: list[Frame], species: list[str], shifts: list[float], config: BaselineConfig
) -> float:
    """Energy scale (eV): a number, the RMS force component, or the deviation per atom."""
    if not isinstance(config.scale, str):
        return float(config.scale)
    if config.scale == "forces_rms":
        labelled = [frame.forces for frame in frames if frame.forces is not None]
        if not labelled:
            raise InputError("baseline.scale: forces_rms needs forces; use energy_std or a number")
        value = float(np.sqrt(np.mean(np.concatenate(labelled) ** 2)))
    else:
        counts, energies = _composition(frames, species)
        value = float(np.std((energies - counts @ np.array(shifts)) / counts.sum(1)))
    if not value > 0:
        raise InputError(
            f"baseline.scale: {config.scale} is {value} on this training set; set a number in eV"
        )
    return value


def _composition(frames: list[Frame], species: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Counts [frames, species] and energies [frames] (eV) of the frames with an energy."""
    labelled = [frame for frame in frames if frame.energy is not None]
    if not labelled:
        raise InputError("no frame of the training set has an energy")
    counts = np.array([[frame.symbols.count(name) for name in species] for frame in labelled])
    return counts, np.array([frame.energy for frame in labelled])
