"""Makes 3bpa.xyz: 3-(benzyloxy)pyridin-2-amine, C12H12N2O, from ideal rings by GFN2-xTB.

    python examples/make_3bpa.py [OUT]           # needs tblite: pip install 'tpcalc[labels]'

Two hexagons and their substituents are drawn from bond lengths and angles, then relaxed. No
published frame is used.
"""

import sys
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.optimize import BFGS
from tblite.ase import TBLite


def direction(degrees: float) -> np.ndarray:
    """Unit vector in the plane of the rings."""
    return np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees)), 0.0])


def draw_3bpa() -> Atoms:
    """The molecule drawn flat, CH2 hydrogens above and below."""
    ring, ch = 1.39, 1.09
    symbols, positions = [], []

    def add(symbol, position):
        symbols.append(symbol)
        positions.append(position)
        return position

    # pyridine: N1 at 90 degrees, then C2 (amine), C3 (ether), C4, C5, C6
    for k, symbol in enumerate("NCCCCC"):
        add(symbol, ring * direction(90 + 60 * k))
    for k in (3, 4, 5):
        add("H", (ring + ch) * direction(90 + 60 * k))
    amine = add("N", (ring + 1.36) * direction(150))
    for turn in (-60, 60):
        add("H", amine + 1.01 * direction(150 + turn))
    oxygen = add("O", (ring + 1.37) * direction(210))
    bridge = add("C", oxygen + 1.43 * direction(270))
    for side in (-1, 1):
        add("H", bridge + 0.63 * direction(330) + [0, 0, side * 0.89])
    centre = bridge + (1.50 + ring) * direction(210)
    for k in range(6):
        add("C", centre + ring * direction(30 + 60 * k))
        if k > 0:
            add("H", centre + (ring + ch) * direction(30 + 60 * k))
    rng = np.random.default_rng(0)  # off the symmetric plane, so that the rings can turn
    return Atoms(symbols, np.array(positions) + rng.normal(scale=0.03, size=(27, 3)))


def main() -> None:
    """Draw, relax, write."""
    atoms = draw_3bpa()
    atoms.calc = TBLite(method="GFN2-xTB", verbosity=0)
    BFGS(atoms, logfile=None).run(fmax=0.01, steps=500)
    atoms.positions -= atoms.positions.mean(axis=0)
    out = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).with_name("3bpa.xyz"))
    atoms.calc = None
    atoms.write(out, comment="3-(benzyloxy)pyridin-2-amine, GFN2-xTB, examples/make_3bpa.py")
    print(f"{atoms.get_chemical_formula()} written to {out}")


if __name__ == "__main__":
    main()
