"""Lattice and elastic constants of silicon by in.silicon_elastic, beside those of the data.

    python examples/lammps/silicon_properties.py models/si-cg/potential.safetensors \\
        --out models/si-cg [--data ../shared/data/si]

Exports the potential in float64, runs the deck, takes the same numbers from strained cells in the
data by central differences, and writes `properties.md` into --out.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import tempfile
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.units import GPa
from tpcalc.errors import InputError
from tpcalc.export import export_potential
from tpcalc.lammps.run import run_deck
from tpcalc.storage import load_potential
from tpcalc.structures import read_structures

HERE = Path(__file__).parent
DECK = "in.silicon_elastic"
CELLS = 2  # the strained structures of the data are 2 x 2 x 2 cubic cells
DATA = Path(os.environ.get("TPCALC_DATA") or "../shared/data") / "si"
NAMES = {
    "a0": "lattice constant", "C11": "C11", "C12": "C12", "C44": "C44, atoms at rest",
    "C44_unrelaxed": "C44, atoms moved with the cell",
}  # fmt: skip


def by_lammps(potential: Path) -> dict[str, float]:
    """a0 in Å, elastic constants in GPa, of the deck."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        shutil.copy(HERE / DECK, folder)
        export_potential(load_potential(potential), folder / "si-cg-f64.pt", dtype="float64")
        log = run_deck(folder / DECK, folder=folder).log
    found = re.findall(r"^tpcalc (\w+) (-?[\d.]+) (?:Angstrom|GPa)", log, re.M)
    return {name: float(value) for name, value in found}


def by_data(frames: list[Atoms]) -> dict[str, float]:
    """The same from labelled frames: the cubic cell under least stress, and its smallest strains.

    Raises:
        InputError: no unstrained cubic cell, or no pair of strains of one axis.
    """
    elastic = [a for a in frames if a.info.get("config_type") == "Elastic"]
    cubic = [
        a for a in elastic if np.ptp(a.cell.lengths()) < 1e-4 and np.allclose(a.cell.angles(), 90)
    ]
    if not cubic:
        raise InputError("the data have no unstrained cubic cell of config_type Elastic")
    rest = min(cubic, key=lambda a: np.abs(a.info["REF_stress"]).max())
    side = rest.cell.lengths()[0]
    strains = []  # (gradient - 1, stress / GPa)
    for a in elastic:
        stress = np.reshape(a.info["REF_stress"], (3, 3)) / GPa
        strains.append((a.cell.array / side - np.eye(3), stress))

    def pair(i: int, j: int) -> list[tuple[float, np.ndarray]]:
        """Smallest strain of each sign where only the row i is strained, along j."""
        best = []
        for sign in (1, -1):
            ones = [(g[i, j], s) for g, s in strains if sign * g[i, j] > 1e-6
                    and np.abs(np.delete(g, i, axis=0)).max() < 1e-6]  # fmt: skip
            best += [min(ones, key=lambda e: abs(e[0]))] if ones else []
        if len(best) < 2:
            raise InputError(f"the data have no strains of both signs of component {i}{j}")
        return best

    (e1, s1), (e2, s2) = pair(0, 0)
    (g1, t1), (g2, t2) = pair(1, 0)
    return {
        "a0": side / CELLS,
        "C11": (s1 - s2)[0, 0] / (e1 - e2),
        "C12": (s1 - s2)[1, 1] / (e1 - e2),
        "C44_unrelaxed": (t1 - t2)[1, 0] / (g1 - g2),
    }


def main(arguments: list[str] | None = None) -> None:
    """Run, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("potential", type=Path, help="NAME.safetensors for Si")
    parser.add_argument("--data", type=Path, default=DATA, help=f"labelled frames ({DATA})")
    parser.add_argument("--out", type=Path, default=Path(), help="folder for the results (.)")
    args = parser.parse_args(arguments)
    frames = [
        f for name in ("train", "valid", "test") for f in read_structures(args.data / f"{name}.xyz")
    ]
    ours, theirs = by_lammps(args.potential), by_data(frames)
    lines = ["| | potential | data (PBE) | difference |", "|---|---|---|---|"]
    for key, title in NAMES.items():
        unit, digits = ("Å", 3) if key == "a0" else ("GPa", 1)
        cells = [f"{ours[key]:.{digits}f} {unit}", "-", "-"]
        if key in theirs:
            cells[1] = f"{theirs[key]:.{digits}f} {unit}"
            cells[2] = f"{100 * (ours[key] / theirs[key] - 1):+.1f} %"
        lines.append(f"| {title} | {' | '.join(cells)} |")
    text = (
        "## Crystal\n\n"
        "By `examples/lammps/in.silicon_elastic` in LAMMPS (float64, strains of 0.5 %), and from "
        "the least strained cells of the data (2 % along an axis, 4 % shear, atoms not relaxed):"
        "\n\n"
        + "\n".join(lines)
        + f"\n\n`python examples/lammps/silicon_properties.py {args.potential} --out {args.out}`\n"
    )
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "properties.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
