"""Makes tiny_parity.npz and .json: `python -m tests.importers.make_nequip_handover CKPT PYTHON`.

CKPT comes from make_nequip.py tiny_parity; PYTHON has nequip. Run in our Python, at the root.
"""

import json
import sys

import numpy as np
from tests.importers.test_import_nequip import HERE, systems
from tpcalc.importers import foreign

if __name__ == "__main__":
    path, python = sys.argv[1:]
    description, arrays = foreign.extract(path, "nequip", python)
    text = np.array(json.dumps(description))
    np.savez_compressed(HERE / "tiny_parity.npz", __description__=text, **arrays)
    results = foreign.evaluate_original(path, "nequip", systems(), python)
    plain = [
        {k: v.tolist() if hasattr(v, "tolist") else v for k, v in r.items() if k != "ms"}
        for r in results
    ]
    (HERE / "tiny_parity.json").write_text(json.dumps(plain))
