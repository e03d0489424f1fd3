"""The main job: real dynamics and a real relaxation with every variant of every potential."""

from __future__ import annotations

import argparse
import sys
import time

from ase import Atoms

from tpcalc.arguments import calculator_options
from tpcalc.bench.lammps import bench_lammps
from tpcalc.bench.md import bench_md
from tpcalc.bench.relax import bench_relax
from tpcalc.bench.report import add_output_arguments, finish
from tpcalc.bench.workloads import demo_potentials, molecule_3bpa
from tpcalc.errors import MissingDependency
from tpcalc.md import MDSettings
from tpcalc.relax import RelaxSettings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `tpcalc bench demo`."""
    from tpcalc.arguments import add_device_arguments

    parser.add_argument("--steps", type=int, default=500, help="MD steps per variant (500)")
    parser.add_argument("--relax-steps", type=int, default=500, help="at most (500)")
    add_device_arguments(parser)
    parser.set_defaults(threads=1)  # 27 atoms: a second thread waits more than it works
    parser.add_argument("--no-lammps", action="store_true", help="ASE only")
    add_output_arguments(parser)


def run(args: argparse.Namespace) -> dict:
    """3BPA, 27 atoms: NVT at 300 K and a relaxation, per variant of the shipped potentials."""
    atoms = molecule_3bpa(1)
    md = MDSettings(steps=args.steps, ensemble="nvt", temperature=300.0)
    relaxation = RelaxSettings(fmax=0.01, steps=args.relax_steps)
    parts, paths = {}, demo_potentials()
    for label, path in paths.items():
        start = time.perf_counter()
        common = calculator_options(args)
        parts[label] = {
            "md": bench_md(path, atoms, settings=md, **common),
            "relax": bench_relax(path, atoms, settings=relaxation, **common),
        }
        variants = len(parts[label]["md"]["rows"])
        seconds = time.perf_counter() - start
        print(f"{label}: {variants} variants in {seconds:.0f} s", file=sys.stderr)
    if not args.no_lammps:
        label = next(iter(paths))
        parts[label]["lammps"] = lammps_part(paths[label], atoms, parts[label]["md"], args)
    return finish(parts, args, paths)


def lammps_part(path, atoms: Atoms, md: dict, args: argparse.Namespace) -> dict:
    """The fastest variant of `md` in LAMMPS, on one rank and on two."""
    fastest = min(md["rows"], key=lambda row: row["ms_per_step"])["variant"]
    try:
        return bench_lammps(
            path, atoms, [fastest], ranks=(1, 2), steps=args.steps, dtype=args.dtype, with_ase=False
        )
    except MissingDependency as error:  # the table says what is missing, and how to get it
        return {"rows": [], "missing": {"LAMMPS": str(error)}, "settings": {}}
