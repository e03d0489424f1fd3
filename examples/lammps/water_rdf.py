"""Water in LAMMPS for 20 ps at 330 K; its O-O radial distribution beside that of the data.

    python examples/lammps/water_rdf.py models/water-cg/potential.safetensors \\
        --out models/water-cg [--steps 40000] [--ranks 1] [--data ../shared/data/water]

Exports the potential (float32, cg/fused, radial splines), runs in.water, and writes
`properties.md` (stability, a table of g(r)) and `rdf.png` into --out. The first fifth of the run
is equilibration and is left out.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from tpcalc.errors import CheckFailed
from tpcalc.export import export_potential
from tpcalc.lammps.run import LammpsRun, read_dump, run_deck
from tpcalc.rdf import radial_distribution
from tpcalc.storage import load_potential
from tpcalc.structures import read_structures

HERE = Path(__file__).parent
R_MAX, BINS = 6.2, 62
TIMESTEP = 0.5  # fs, of in.water
ROUGH = 0.5  # Å, spacing of the rows of the table
DATA = Path(os.environ.get("TPCALC_DATA") or "../shared/data") / "water"


def run_water(potential: Path, folder: Path, steps: int, ranks: int, threads: int) -> LammpsRun:
    """in.water with the exported potential, in `folder`."""
    for name in ("in.water", "water.data"):
        shutil.copy(HERE / name, folder)
    export_potential(
        load_potential(potential), folder / "water-cg.pt", variant="cg/fused", radial="spline"
    )
    return run_deck(
        folder / "in.water", ranks, {"steps": steps}, folder, threads=threads, timeout=24 * 3600
    )


def frames_of(dump: Path, data: Path) -> list[Atoms]:
    """The dump of in.water as structures; cell from the data file."""
    start = ase.io.read(data, format="lammps-data", atom_style="atomic")
    frames = []
    for frame in read_dump(dump):
        positions = np.array([frame["x"], frame["y"], frame["z"]]).T
        symbols = ["HO"[int(kind) - 1] for kind in frame["type"]]
        frames.append(Atoms(symbols, positions, cell=start.cell, pbc=True))
    return frames


def table(columns: dict[str, np.ndarray], r: np.ndarray) -> str:
    """Peaks, and g averaged over shells of ROUGH Å."""
    lines = ["| | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
    peak = {k: int(np.argmax(g)) for k, g in columns.items()}
    dip = {k: p + int(np.argmin(columns[k][p : p + 15])) for k, p in peak.items()}
    for title, where in (("first maximum", peak), ("minimum behind it", dip)):
        cells = [f"{columns[k][i]:.2f} at {r[i]:.2f} Å" for k, i in where.items()]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    group = ((r - r[0]) / ROUGH + 1e-9).astype(int)
    for k in range(group.max() + 1):
        if any(g[group == k].max() > 0 for g in columns.values()):
            cells = [f"{g[group == k].mean():.2f}" for g in columns.values()]
            lines.append(f"| g, {k * ROUGH:.1f} to {(k + 1) * ROUGH:.1f} Å | {' | '.join(cells)} |")
    return "\n".join(lines)


def plot(path: Path, r: np.ndarray, columns: dict[str, np.ndarray]) -> None:
    """Curves of g(r)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(xlabel="r / Å", ylabel="g(r), O-O", xlim=(2, r[-1]))
    for (name, g), style in zip(columns.items(), ("-", "--")):
        axes.plot(r, g, style, label=name)
    axes.legend()
    figure.savefig(path, dpi=120)


def stability(run: LammpsRun, frames: list[Atoms], steps: int) -> str:
    """A sentence of what the run did.

    Raises:
        CheckFailed: a hydrogen is further than 1.6 Å from every oxygen in the last frame.
    """
    last = frames[-1]
    hydrogens, oxygens = (np.flatnonzero(last.symbols == s) for s in "HO")
    longest = max(last.get_distances(h, oxygens, mic=True).min() for h in hydrogens)
    if longest > 1.6:
        raise CheckFailed(f"a hydrogen is {longest:.2f} Å from the nearest oxygen: not stable")
    thermo = run.thermo[-1]
    half = len(thermo["Temp"]) // 2
    ms = 1e3 * run.loops[-1][0] / steps
    drift = (thermo["Econserve"][-1] - thermo["Econserve"][half]) / len(last) * 1e3
    return (
        f"`in.water` ({len(last)} atoms, NVT, {TIMESTEP} fs) ran {steps * TIMESTEP / 1000:g} ps: "
        f"mean temperature of the second half {np.mean(thermo['Temp'][half:]):.0f} K, the "
        f"conserved energy moved by {drift:+.2f} meV/atom in it, the longest O-H bond at the end "
        f"is {longest:.2f} Å; {ms:.1f} ms a step by the clock."
    )


def main(arguments: list[str] | None = None) -> None:
    """Run, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("potential", type=Path, help="NAME.safetensors for H and O")
    parser.add_argument("--steps", type=int, default=40000, help="of 0.5 fs (40000: 20 ps)")
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1, help="per rank (1)")
    parser.add_argument("--data", type=Path, default=DATA, help=f"labelled frames ({DATA})")
    parser.add_argument("--out", type=Path, default=Path(), help="folder for the results (.)")
    parser.add_argument("--keep", type=Path, help="folder to run in; kept")
    args = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        run = run_water(args.potential, folder, args.steps, args.ranks, args.threads)
        frames = frames_of(folder / "water.dump", folder / "water.data")
        said = stability(run, frames, args.steps)
        r, ours = radial_distribution(frames[len(frames) // 5 :], "O", "O", R_MAX, BINS)
    data = [
        f for name in ("train", "valid", "test") for f in read_structures(args.data / f"{name}.xyz")
    ]
    _, theirs = radial_distribution(data, "O", "O", R_MAX, BINS)
    columns = {f"potential, {len(frames) - len(frames) // 5} frames": ours,
               f"data, {len(data)} frames": theirs}  # fmt: skip
    difference = np.abs(ours - theirs)
    text = (
        "## In LAMMPS\n\n"
        f"{said}\n\nO-O radial distribution (largest difference {difference.max():.2f}, mean "
        f"{difference.mean():.3f}, up to {R_MAX} Å, shells of {R_MAX / BINS:.1f} Å):\n\n"
        f"{table(columns, r)}\n\n![O-O radial distribution](rdf.png)\n\n"
        f"`python examples/lammps/water_rdf.py {args.potential} --steps {args.steps} "
        f"--ranks {args.ranks} --out {args.out}`\n"
    )
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "properties.md").write_text(text, encoding="utf-8")
    plot(args.out / "rdf.png", r, columns)
    print(text)


if __name__ == "__main__":
    main()
