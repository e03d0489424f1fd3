"""Makes si.xyz: eight atoms of diamond silicon at the lattice constant of models/si-cg.

python examples/make_si.py [OUT]
"""

import sys
from pathlib import Path

import ase.io
from ase.build import bulk


def main() -> None:
    """Write the cubic cell."""
    out = sys.argv[1] if len(sys.argv) > 1 else Path(__file__).with_name("si.xyz")
    ase.io.write(out, bulk("Si", "diamond", 5.47, cubic=True), format="extxyz")


if __name__ == "__main__":
    main()
