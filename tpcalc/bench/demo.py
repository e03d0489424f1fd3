"""The main job: real dynamics and a real relaxation with every variant of every potential."""

from __future__ import annotations

import argparse
import sys
import time

from tpcalc.arguments import calculator_options
from tpcalc.bench.md import bench_md
from tpcalc.bench.relax import bench_relax
from tpcalc.bench.report import add_output_arguments, finish
from tpcalc.bench.workloads import demo_potentials, molecule_3bpa
from tpcalc.md import MDSettings
from tpcalc.relax import RelaxSettings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `tpcalc bench demo`."""
    from tpcalc.arguments import add_device_arguments

    parser.add_argument("--steps", type=int, default=500, help="MD steps per variant (500)")
    parser.add_argument("--relax-steps", type=int, default=500, help="at most (500)")
    add_device_arguments(parser)
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
    return finish(parts, args, paths)
