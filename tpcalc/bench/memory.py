"""`tpcalc bench memory`: the most memory that one energy and force step takes, against atoms."""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from tpcalc.arguments import calculator_options, whole_numbers
from tpcalc.bench.step import SPLINE
from tpcalc.bench.workloads import WORKLOADS, workload
from tpcalc.errors import CheckFailed, InputError, check_name
from tpcalc.kernels.allocator import return_freed_memory
from tpcalc.progress import progress
from tpcalc.tables import format_table

COLUMNS = {
    "variant": "variant",
    "variant_class": "class",
    "atoms": "atoms d",
    "edges": "edges d",
    "peak_MB": "peak MB .1f",
    "kB_per_atom": "kB/atom .2f",
    "kB_per_edge": "kB/edge .3f",
    "list_peak_MB": "list search MB .1f",
    "list_held_MB": "held MB .1f",
    "seconds": "s/step .2f",
}
FIT_COLUMNS = {
    "variant": "variant",
    "kB_per_atom": "kB/atom .2f",
    "fixed_MB": "fixed MB .1f",
    "off_percent": "off the line % .1f",
}
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_CHILD = "import sys; from tpcalc.bench.memory import child; child(sys.argv[1])"


def bench_memory(
    potential: str | Path, systems: list[str], variants: list[str], threads: int = 1,
    allocator: str = "retain", **options,
) -> dict:  # fmt: skip
    """Peak memory of a step, each system and variant in a process of its own.

    Args:
        potential: path of a file.
        systems: as `workload` takes them.
        variants: names; NAME+spline has its radial networks as splines.
        threads, allocator: of the processes.
        **options: device, dtype, skin and mode of `TPCalculator`.

    Returns:
        {"rows": one a run, "fits": one a variant with three sizes or more}. MB are 1e6 bytes
        above what the process held after loading and a first step of two molecules; `fits` are
        straight lines through peak against atoms.

    Raises:
        CheckFailed: a process died, with its last words.
    """
    rows = []
    with progress(len(systems) * len(variants), "memory", "run") as bar:
        for variant in variants:
            for system in systems:
                job = {
                    "potential": str(potential), "system": system, "variant": variant,
                    "threads": threads, "allocator": allocator, "options": options,
                }  # fmt: skip
                rows.append(_in_own_process(job))
                bar.update()
    return {"rows": rows, "fits": _fits(rows)}


def _in_own_process(job: dict) -> dict:
    run = subprocess.run(
        [sys.executable, "-c", _CHILD, json.dumps(job)], capture_output=True, text=True
    )
    if run.returncode:
        last = (run.stderr.strip().splitlines() or ["killed; is there enough memory?"])[-1]
        what = f"{job['variant']} on {job['system']}"
        raise CheckFailed(f"{what} ended with {run.returncode}: {last}")
    return json.loads(run.stdout.splitlines()[-1])


def child(job: str) -> None:
    """What the process of one run does: prints its row."""
    from tpcalc.arguments import prepare_process
    from tpcalc.calculator import TPCalculator
    from tpcalc.md import run_description

    given = json.loads(job)
    prepare_process(argparse.Namespace(threads=given["threads"], allocator=given["allocator"]))
    name, spline = given["variant"].removesuffix(SPLINE), given["variant"].endswith(SPLINE)
    options = given["options"] | ({"radial": "spline"} if spline else {})
    calculator = TPCalculator(given["potential"], name, **options)
    atoms = workload(given["system"])
    for _ in range(3):  # libraries, threads, TorchScript's executor
        calculator.calculate(atoms[:6])
    row = measure(calculator, atoms)
    row = {**run_description(calculator), **row, "variant": given["variant"]}
    print(json.dumps(row | {"system": given["system"], "allocator": given["allocator"]}))


def measure(calculator, atoms) -> dict:
    """Peak memory above the present one, of the neighbour search and of two whole steps.

    Raises:
        InputError: not on Linux.
    """
    import time

    neighbors = calculator.evaluators[0].neighbors
    structure = (atoms.positions, atoms.cell.array, atoms.pbc, atoms.numbers)
    held = _restart()
    neighbors.update(*structure)
    search = _high_water() - held
    atoms.positions[0, 0] += 1e-4  # the list stays, the step is a new one
    calculator.calculate(atoms)
    atoms.positions[0, 0] += 1e-4
    begin = time.perf_counter()
    calculator.calculate(atoms)
    seconds = time.perf_counter() - begin
    peak = _high_water() - held
    return {
        "atoms": len(atoms), "peak_MB": peak, "kB_per_atom": 1e3 * peak / len(atoms),
        "kB_per_edge": 1e3 * peak / max(calculator.num_edges, 1), "list_peak_MB": search,
        "list_held_MB": neighbors.nbytes / 1e6, "seconds": seconds,
    }  # fmt: skip


def _restart() -> float:
    """Sets the high-water mark back; the present memory in MB."""
    gc.collect()
    return_freed_memory()  # what loading freed would be used again, and not be seen
    try:
        CLEAR.write_text("5")
    except OSError as error:
        raise InputError(
            f"`tpcalc bench memory` resets the kernel's high-water mark in {CLEAR}, which this "
            f"system does not allow ({error.strerror}); run it on Linux"
        ) from error
    return _high_water()


def _high_water() -> float:
    line = next(n for n in STATUS.read_text().splitlines() if n.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / 1e6


def _fits(rows: list[dict]) -> list[dict]:
    """Straight lines through the peaks; `off_percent`: the furthest point, of the largest peak."""
    fits = []
    for variant in dict.fromkeys(row["variant"] for row in rows):
        own = [row for row in rows if row["variant"] == variant]
        if len({row["atoms"] for row in own}) < 3:
            continue
        atoms, peaks = (np.array([row[key] for row in own]) for key in ("atoms", "peak_MB"))
        slope, fixed = np.polyfit(atoms, peaks, 1)
        off = np.abs(peaks - slope * atoms - fixed).max() / peaks.max()
        fits.append({
            "variant": variant, "kB_per_atom": float(1e3 * slope), "fixed_MB": float(fixed),
            "off_percent": float(100 * off),
        })  # fmt: skip
    return fits


def systems_of(text: str) -> list[str]:
    """ "water:64,192" -> ["water:64", "water:192"]; a file stays one.

    Raises:
        InputError: a size that is no number, an unknown system.
    """
    kind, _, sizes = text.partition(":")
    if Path(text).is_file() or not sizes:
        return [text]
    check_name("system (no such file either)", kind, WORKLOADS)
    return [f"{kind}:{size}" for size in whole_numbers("--system", sizes)]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `tpcalc bench memory`."""
    from tpcalc.arguments import add_device_arguments

    parser.add_argument("potential", help="NAME.safetensors")
    parser.add_argument(
        "--system",
        default="water:64,333,1000",
        help="water:64,333,1000 "
        "(molecules), silicon:3,5 or a file; a line is fitted through three sizes or more",
    )
    parser.add_argument(
        "--variants",
        nargs="+",
        help="names; NAME+spline has radial splines "
        "(default: FUNCTION/fused and FUNCTION/fused+spline)",
    )
    add_device_arguments(parser)
    parser.set_defaults(threads=1)
    parser.add_argument("-o", "--out", help="also write everything to NAME.json")


def run(args: argparse.Namespace) -> dict:
    """`tpcalc bench memory POTENTIAL`."""
    from tpcalc.bench.report import machine
    from tpcalc.storage import read_manifest
    from tpcalc.tensor_products import parse_variant

    function = read_manifest(args.potential)["function"]
    variants = args.variants or [f"{function}/fused", f"{function}/fused{SPLINE}"]
    for name in variants:
        parse_variant(name.removesuffix(SPLINE))
    result = bench_memory(
        args.potential, systems_of(args.system), variants, args.threads, args.allocator,
        **calculator_options(args),
    )  # fmt: skip
    result["machine"] = machine()
    if not args.json:
        print(f"{args.dtype}, {args.mode}, {args.threads} thread(s), allocator {args.allocator}; "
              "a process each, above what it held before the step")  # fmt: skip
        print(format_table(result["rows"], COLUMNS))
        if result["fits"]:
            print("", "peak = fixed + atoms x", format_table(result["fits"], FIT_COLUMNS), sep="\n")
    if args.out:
        Path(args.out).write_text(json.dumps(result, indent=1) + "\n")
    return result
