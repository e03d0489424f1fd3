"""Molecular dynamics per variant: same start, same run, measured in turn."""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, field

import numpy as np
import torch
from ase import Atoms

from tpcalc.arguments import calculator_options, whole_numbers
from tpcalc.bench.compare import choose_variants, differences
from tpcalc.bench.cores import core_scaling
from tpcalc.bench.turns import Clock
from tpcalc.bench.workloads import workload
from tpcalc.calculator import TPCalculator
from tpcalc.md import COLD_STEPS, MDSettings, integrator, run_description, start_velocities
from tpcalc.progress import progress
from tpcalc.structures import bare

TURNS = 10  # the steps of a variant are run in so many pieces, one variant after the other


@dataclass
class _Run:
    """One variant at work on some threads."""

    atoms: Atoms
    threads: int
    load_s: float
    first_s: float
    forces: np.ndarray
    dynamics: object = None
    seconds: list[float] = field(default_factory=list)
    temperatures: list[float] = field(default_factory=list)

    def advance(self, steps: int) -> None:
        torch.set_num_threads(self.threads)
        for _ in range(steps):
            begin = time.perf_counter()
            self.forces = self.dynamics.step(self.forces)
            self.seconds.append(time.perf_counter() - begin)
        self.temperatures.append(self.atoms.get_temperature())


def bench_md(
    potential,
    atoms: Atoms,
    variants: list[str] | None = None,
    settings: MDSettings | None = None,
    threads: list[int] | None = None,
    **options,
) -> dict:
    """Run the same dynamics with each variant of a potential and time every step.

    Args:
        potential: a path or `Potential`.
        atoms: the start; velocities are drawn with the seed of the settings.
        variants: names, None for every exact variant that can run here.
        settings: steps, ensemble, ...; files are not written.
        threads: of torch, each variant runs with every number; None for those it has.
        **options: device, dtype, skin and mode of `TPCalculator`.

    Returns:
        {"rows": one per variant and number of threads, "missing": variant -> why it cannot run}.
        Cold values (loading, first call, first steps) are apart from the warm ones; differences
        are taken on frames of the first run.
    """
    settings = settings or MDSettings(steps=500, ensemble="nvt")
    settings.check()
    loaded = TPCalculator(potential).potential
    names, missing = choose_variants(loaded, variants)
    start = bare(atoms)
    start_velocities(start, settings.temperature, settings.seed)
    with Clock(own := torch.get_num_threads()):  # restores them
        runs = {
            (name, number): _start(potential, name, start, settings, number, options)
            for name in names
            for number in threads or [own]
        }
        frames = [bare(start)]
        with progress(settings.steps * len(runs), "md") as bar:
            for steps in _split(settings.steps, TURNS):
                for run in runs.values():
                    run.advance(steps)
                    bar.update(steps)
                frames.append(bare(next(iter(runs.values())).atoms))
    far = differences(potential, names, frames, **options)
    rows = [_row(name, run, settings) | far[name] for (name, _), run in runs.items()]
    return {
        "rows": rows,
        "missing": missing,
        "settings": vars(settings),
    }


def _start(potential, name, start, settings, threads, options) -> _Run:
    torch.set_num_threads(threads)
    begin = time.perf_counter()
    calculator = TPCalculator(potential, name, **options)
    loaded = time.perf_counter()
    atoms = bare(start)
    atoms.calc = calculator
    forces = atoms.get_forces()
    run = _Run(atoms, threads, loaded - begin, time.perf_counter() - loaded, forces)
    run.dynamics = integrator(atoms, settings)
    return run


def _split(total: int, parts: int) -> list[int]:
    edges = np.linspace(0, total, min(parts, total) + 1).round().astype(int)
    return np.diff(edges).tolist()


def _row(name: str, run: _Run, settings: MDSettings) -> dict:
    warm = np.array(run.seconds[min(COLD_STEPS, len(run.seconds) - 1) :])
    median = float(np.median(warm))
    return {
        **run_description(run.atoms.calc),
        "variant": name,
        "threads": run.threads,
        "atoms": len(run.atoms),
        "steps": len(run.seconds),
        "ms_per_step": 1e3 * median,
        "ms_per_step_p95": 1e3 * float(np.percentile(warm, 95)),
        "us_per_atom_step": 1e6 * median / len(run.atoms),
        "ns_per_day": 86400e-6 * settings.timestep / median,
        "load_ms": 1e3 * run.load_s,
        "first_call_ms": 1e3 * run.first_s,
        "cold_ms_per_step": 1e3 * float(np.max(run.seconds[:COLD_STEPS])),
        "temperature_K": float(np.mean(run.temperatures[len(run.temperatures) // 2 :])),
        "neighbor_builds": run.atoms.calc.evaluators[0].neighbors.builds,
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `tpcalc bench md`."""
    from tpcalc.bench.report import add_bench_arguments

    add_bench_arguments(parser)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--timestep", type=float, default=0.5, help="fs (0.5)")
    parser.add_argument("--ensemble", default="nvt", help="nve or nvt")
    parser.add_argument("--temperature", type=float, default=300.0, help="K")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--scaling", metavar="N,N", help="run each variant with these numbers of threads, in turn"
    )


def run(args: argparse.Namespace) -> dict:
    """`tpcalc bench md POTENTIAL...`."""
    from tpcalc.bench.report import finish, labelled

    settings = MDSettings(
        steps=args.steps, timestep=args.timestep, ensemble=args.ensemble,
        temperature=args.temperature, seed=args.seed,
    )  # fmt: skip
    threads = whole_numbers("--scaling", args.scaling) if args.scaling else None
    atoms, paths = workload(args.system), labelled(args.potentials)
    options = calculator_options(args)
    parts = {
        label: {"md": bench_md(path, atoms, args.variants, settings, threads, **options)}
        for label, path in paths.items()
    }
    result = finish(parts, args, paths)
    if threads:
        result["core_scaling"] = alone = core_scaling(max(threads))
        if not args.json:
            print(
                f"This machine's own limit on {max(threads)} threads, work that shares nothing: "
                f"{alone['multiply']:.2f} times one thread in the cache, {alone['read']:.2f} times "
                "where it reads memory."
            )
    return result
