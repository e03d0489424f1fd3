"""An imported potential against the original: in turn, same structures, threads and dtype."""

from __future__ import annotations

import argparse
import resource

import numpy as np
from ase import Atoms

from tpcalc.calculator import TPCalculator
from tpcalc.errors import InputError
from tpcalc.importers import foreign
from tpcalc.importers.original_worker import timings
from tpcalc.structures import bare, read_structure

TURNS = 3  # the original's process and ours run one after the other so many times


def bench_imported(model, original, package: str, python, atoms: Atoms, variant: str | None = None,
                   dtype: str = "float32", threads: int = 1, repeats: int = 8,
                   head: str | None = None) -> dict:  # fmt: skip
    """ms per call (energy and forces of slightly moved atoms), memory, largest difference.

    Args:
        model: NAME.safetensors made by `tpcalc import`.
        original: the file it was made from; its pickle is executed by `python`.
        package: "mace" or "sevennet".
        repeats: timed calls a turn, of each; two cold ones before them are left out.

    Returns:
        {"rows": [original, ours], "difference": energy per atom (eV), forces (eV/Å)}.
    """
    theirs: list[tuple[float, float]] = []  # (wall, CPU) ms
    ours: list[tuple[float, float]] = []
    calculator = TPCalculator(model, variant, dtype=dtype)
    result = {}
    for _ in range(TURNS):
        (result,) = foreign.evaluate_original(
            original, package, [bare(atoms)], python, head, dtype, threads, repeats
        )
        theirs += result["ms"]
        moving = bare(atoms)
        moving.calc = calculator
        ours += timings(moving, repeats)
    still = bare(atoms)
    still.calc = calculator
    forces = still.get_forces()
    own_peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    difference = {
        "energy_per_atom": abs(still.get_potential_energy() - result["energy"]) / len(atoms),
        "forces": float(np.abs(forces - result["forces"]).max()),
    }
    rows = [
        _row(package, "its ASE calculator", theirs, result["peak_MB"]),
        _row("tpcalc", calculator.variant, ours, own_peak),
    ]
    return {
        "rows": rows, "difference": difference, "times_faster": rows[0]["ms"] / rows[1]["ms"],
        "times_faster_cpu": rows[0]["cpu_ms"] / rows[1]["cpu_ms"],
        "atoms": len(atoms), "edges": calculator.num_edges, "dtype": dtype, "threads": threads,
    }  # fmt: skip


def _row(package: str, variant: str, times: list[tuple[float, float]], peak: float) -> dict:
    wall, cpu = zip(*times)
    return {
        "package": package,
        "variant": variant,
        "ms": float(np.median(wall)),
        "ms_p95": float(np.percentile(wall, 95)),
        "cpu_ms": float(np.median(cpu)),  # what to compare by on a machine that others use too
        "calls": len(times),
        "peak_MB": peak,
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `tpcalc bench import`."""
    parser.add_argument("model", help="NAME.safetensors made by tpcalc import")
    parser.add_argument("--original", required=True, help="the file it was made from")
    parser.add_argument(
        "--against",
        required=True,
        help="the package of the original: " + ", ".join(foreign.PACKAGES),
    )
    parser.add_argument("--python", help="interpreter that has the package")
    parser.add_argument("--system", required=True, help="structure, any format of ASE")
    parser.add_argument("--variant", help="our tensor-product variant")
    parser.add_argument("--head", help="head of a multi-head model")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=8)
    parser.add_argument("--allocator", default="retain", help="of our process: retain or system")
    parser.add_argument(
        "--trust", action="store_true", help="run the original: executes code from its file"
    )


def run(args: argparse.Namespace) -> dict:
    """Print both rows and the difference."""
    if not args.trust:
        raise InputError("the original is run, which executes code from its file; add --trust")
    if args.repeats < 1:
        raise InputError(f"--repeats is {args.repeats}; it must be at least 1")
    python = foreign.find_python(args.against, args.python)
    if python is None:
        raise InputError(
            f"no Python with {args.against}: name one with --python, or make one with "
            f"`tpcalc import --make-env {args.against}`"
        )
    result = bench_imported(
        args.model, args.original, args.against, python, read_structure(args.system),
        args.variant, args.dtype, args.threads, args.repeats, args.head,
    )  # fmt: skip
    if not args.json:
        print(f"{result['atoms']} atoms, {result['edges']} edges, {args.dtype}, "
              f"{args.threads} threads")  # fmt: skip
        for row in result["rows"]:
            print(f"  {row['package']:9s} {row['variant']:20s} {row['ms']:9.2f} ms "
                  f"(p95 {row['ms_p95']:.2f}, CPU {row['cpu_ms']:.2f}; {row['calls']} calls), "
                  f"{row['peak_MB']:.0f} MB")  # fmt: skip
        d = result["difference"]
        print(f"  {result['times_faster']:.1f} times faster "
              f"({result['times_faster_cpu']:.1f} in CPU time); largest difference "
              f"{d['energy_per_atom']:.1e} eV/atom, {d['forces']:.1e} eV/Å")  # fmt: skip
    return result
