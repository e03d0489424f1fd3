"""tpcalc: equivariant potentials in ASE and LAMMPS with swappable tensor products."""

from __future__ import annotations

import importlib

__version__ = "0.1.0"
__all__ = ["TPCalculator", "load_potential", "__version__"]

# loaded at first use: `import tpcalc` stays free of torch and ASE
_LAZY = {"TPCalculator": "tpcalc.calculator", "load_potential": "tpcalc.storage"}


def __getattr__(name: str):
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'tpcalc' has no attribute {name!r}")
