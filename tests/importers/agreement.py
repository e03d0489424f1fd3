"""How close an imported potential must be to its original in float64."""

import json
from pathlib import Path

from ase import Atoms
from tpcalc import TPCalculator
from tpcalc.verify import differences

LIMITS = {"energy": 1e-9, "forces": 1e-8, "stress": 1e-9}  # eV/atom, eV/Å, eV/Å³


def assert_agrees(names, results, expected) -> None:
    """Every difference of every structure within `LIMITS`."""
    for name, result, reference in zip(names, results, expected, strict=True):
        found = differences(result, reference)
        print(f"{name:14s}", *(f"{key} {value:.1e}" for key, value in found.items()))
        assert all(value < LIMITS[key] for key, value in found.items()), (name, found)


def assert_goldens(potential, path: Path) -> None:
    """Results of the potential against structures and results stored by `make_goldens.py`."""
    goldens = json.loads(path.read_text())
    structures = [
        Atoms(**{key: g[key] for key in ("numbers", "positions", "cell", "pbc")}) for g in goldens
    ]
    results = TPCalculator(potential, dtype="float64", skin=0.0).evaluate(structures)
    assert_agrees([g["name"] for g in goldens], results, goldens)
