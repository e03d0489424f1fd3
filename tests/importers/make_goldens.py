"""Makes the small fixtures: arrays of a tiny random model, and what its own package computes.

    python -m tests.importers.make_goldens PACKAGE KIND FILE PYTHON [HEAD]

In our Python, at the repository's root. FILE comes from make_mace.py or make_nequip.py, PYTHON has
the package. Our own random or briefly trained weights; no foreign weights are in the repository.
"""

import json
import sys
from pathlib import Path

import numpy as np
from tpcalc.importers import foreign, mace, nequip
from tpcalc.importers.probes import golden, probe_structures

HERE = Path(__file__).parent


def make(package: str, kind: str, path: str, python: str, head: str | None = None) -> None:
    """tests/importers/KIND.npz and KIND.json."""
    description, arrays = foreign.extract(path, package, python)
    config = {"mace": mace, "nequip": nequip}[package].describe(description)
    probes = probe_structures(config["species"], config["cutoff"])
    results = foreign.evaluate_original(path, package, list(probes.values()), python, head)
    text = np.array(json.dumps(description))
    np.savez_compressed(HERE / f"{kind}.npz", __description__=text, **arrays)
    goldens = [golden(*entry) for entry in zip(probes, probes.values(), results)]
    (HERE / f"{kind}.json").write_text(json.dumps(goldens))


if __name__ == "__main__":
    make(*sys.argv[1:])
