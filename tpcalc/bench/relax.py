"""Relaxations per variant: same start, same optimizer; steps, end and time."""

from __future__ import annotations

import argparse
import time

import numpy as np
from ase import Atoms

from tpcalc.arguments import calculator_options
from tpcalc.bench.compare import choose_variants
from tpcalc.bench.workloads import workload
from tpcalc.calculator import TPCalculator
from tpcalc.md import run_description
from tpcalc.progress import progress
from tpcalc.relax import RelaxSettings, relax
from tpcalc.structures import bare


def bench_relax(
    potential,
    atoms: Atoms,
    variants: list[str] | None = None,
    settings: RelaxSettings | None = None,
    displacement: float = 0.1,
    seed: int = 0,
    **options,
) -> dict:
    """Relax the same displaced structure with each variant of a potential.

    Args:
        potential, variants, **options: as `bench_md`.
        atoms: the structure; every coordinate is moved by N(0, `displacement` Å), seeded.
        settings: of the relaxation.

    Returns:
        {"rows": one per variant: steps, energy, status, ms/step, largest distance of an atom
        from where the first variant put it; "missing": ...}.
    """
    settings = settings or RelaxSettings()
    settings.check()
    loaded = TPCalculator(potential).potential
    names, missing = choose_variants(loaded, variants)
    start = bare(atoms)
    start.positions += np.random.default_rng(seed).normal(scale=displacement, size=(len(atoms), 3))
    rows, first = [], None
    with progress(len(names), "relax", "variant") as bar:
        for name in names:
            work = bare(start)
            work.calc = TPCalculator(potential, name, **options)
            work.get_forces()  # cold call apart
            marks = [time.perf_counter()]
            row = relax(work, settings, lambda m=marks: m.append(time.perf_counter()))
            first = work.positions.copy() if first is None else first
            step_s = np.diff(marks[1:]) if len(marks) > 2 else np.array([row["seconds"]])
            rows.append(
                {
                    **run_description(work.calc),
                    **row,
                    "variant": name,
                    "ms_per_step": 1e3 * float(np.median(step_s)),
                    "ms_per_step_p95": 1e3 * float(np.percentile(step_s, 95)),
                    "distance_A": float(np.abs(work.positions - first).max()),
                }
            )
            bar.update()
    return {
        "rows": rows,
        "missing": missing,
        "settings": vars(settings),
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `tpcalc bench relax`."""
    from tpcalc.bench.report import add_bench_arguments

    add_bench_arguments(parser)
    parser.add_argument("--fmax", type=float, default=0.01, help="eV/Å (0.01)")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--optimizer", default="lbfgs", help="lbfgs or fire")
    parser.add_argument("--displacement", type=float, default=0.1, help="Å (0.1)")


def run(args: argparse.Namespace) -> dict:
    """`tpcalc bench relax POTENTIAL...`."""
    from tpcalc.bench.report import finish, labelled

    settings = RelaxSettings(args.fmax, args.steps, args.optimizer)
    atoms, paths = workload(args.system), labelled(args.potentials)
    parts = {
        label: {
            "relax": bench_relax(
                path, atoms, args.variants, settings, args.displacement,
                **calculator_options(args),
            )
        }
        for label, path in paths.items()
    }  # fmt: skip
    return finish(parts, args, paths)
