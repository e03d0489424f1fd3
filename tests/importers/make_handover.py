"""Makes the small fixtures: arrays of a tiny random MACE model, and what mace computes with it.

    python make_handover.py PYTHON_WITH_MACE [KIND ...]

From the repository's root, in our Python.

Our own random weights; no foreign weights are in the repository.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from tests.importers.test_import_mace import HEADS, systems
from tpcalc.importers import foreign

HERE = Path(__file__).parent


def make(kind: str, python: str) -> None:
    """tests/importers/KIND.npz and KIND.json."""
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder, f"{kind}.model")
        environment = dict(os.environ, TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD="1")
        command = [python, str(HERE / "make_mace.py"), kind, str(model)]
        subprocess.run(command, check=True, env=environment)
        description, arrays = foreign.extract(model, "mace", python)
        np.savez_compressed(
            HERE / f"{kind}.npz", __description__=np.array(json.dumps(description)), **arrays
        )
        results = foreign.evaluate_original(model, "mace", systems(), python, HEADS[kind])
    for result in results:
        for key in ("forces", "stress"):
            if key in result:
                result[key] = result[key].tolist()
        result.pop("ms")
    (HERE / f"{kind}.json").write_text(json.dumps(results))


if __name__ == "__main__":
    for kind in sys.argv[2:] or HEADS:
        make(kind, sys.argv[1])
