"""Writes NAME/predictions.json: what each shipped potential says about our own structures.

    python models/predict.py [NAME ...]

The tests recompute these everywhere, also where the published data are not at hand.
"""

import json
import sys
from pathlib import Path

import numpy as np
from ase.io import read
from tpcalc import TPCalculator

MODELS = Path(__file__).parent
STRUCTURE = MODELS.parent / "examples" / "3bpa.xyz"


def structures():
    """Our 3BPA at rest, and three copies with every coordinate moved, seeded."""
    rest = read(STRUCTURE)
    moved = [rest.copy() for _ in range(3)]
    for seed, atoms in enumerate(moved):
        shift = np.random.default_rng(seed).normal(scale=0.05, size=(len(atoms), 3))
        atoms.positions += shift
    return [rest, *moved]


def main() -> None:
    """All potentials, or those named."""
    names = sys.argv[1:] or sorted(p.parent.name for p in MODELS.glob("*/potential.safetensors"))
    for name in names:
        calculator = TPCalculator(MODELS / name / "potential.safetensors", dtype="float64")
        function = calculator.potential.config["function"]
        results = calculator.swap(f"{function}/reference").evaluate(structures())
        frames = [
            {"energy_eV": r["energy"], "forces_eV_A": np.round(r["forces"], 9).tolist()}
            for r in results
        ]
        path = MODELS / name / "predictions.json"
        path.write_text(json.dumps(frames) + "\n")
        print(path)


if __name__ == "__main__":
    main()
