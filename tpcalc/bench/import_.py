"""An imported potential against the original: call by call, same atoms, threads and dtype."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
from ase import Atoms

from tpcalc.arguments import add_memory_arguments, retain_if_asked
from tpcalc.bench.turns import Clock, check_counts
from tpcalc.bench.workloads import workload
from tpcalc.calculator import TPCalculator
from tpcalc.errors import InputError, check_name
from tpcalc.importers import foreign
from tpcalc.importers.original_process import OriginalProcess
from tpcalc.importers.original_server import peak_memory
from tpcalc.progress import progress
from tpcalc.storage import read_manifest

AGAINST = (*foreign.PACKAGES, "e3nn")
FORMS = ("direct", "serial")  # symmetrix: compiled for the model, or its plain C++ evaluator
WARM_UP = 3  # calls that are not timed: first allocations, profiling executors, plans


def bench_imported(original, package: str, python, atoms: Atoms, ours: TPCalculator,
                   threads: int = 1, repeats: int = 8, retain: bool = True,
                   head: str | None = None, form: str | None = None) -> dict:  # fmt: skip
    """ms per call (energy and forces), memory of each process, largest differences.

    The original has a process of its own; the two take turns call by call on the same atoms,
    which move by about 1e-3 Å before each turn.

    Args:
        original: the file our potential was made from (executed by `python`); for symmetrix the
            same, or its JSON; for nequip also what nequip-compile made of it (.nequip.pt2); for
            e3nn our own NAME.safetensors.
        package: one of `AGAINST`.
        ours: what is compared; its dtype is asked of the original too.
        repeats: timed calls of each, after `WARM_UP` that are not.
        retain: freed memory is kept in the original's process; ours is the caller's.
        head, form: see `OriginalProcess`.

    Returns:
        {"rows": [original, ours], "difference": energy per atom (eV), forces (eV/Å), times_faster
        (wall), times_faster_cpu, and what ran}.
    """
    dtype = str(ours.potential.dtype).removeprefix("torch.")
    check_counts(repeats=repeats, threads=threads)
    atoms, rng = atoms.copy(), np.random.default_rng(0)
    atoms.calc = ours
    times: dict[str, list[tuple[float, float]]] = {"theirs": [], "ours": []}
    worst = {"energy_per_atom": 0.0, "forces": 0.0}
    with (
        Clock(threads),
        OriginalProcess(original, package, atoms, python, dtype, threads, retain, head,
                        form) as theirs,
        progress(repeats + WARM_UP, "in turn", "call") as bar,
    ):  # fmt: skip
        for n in range(repeats + WARM_UP):
            atoms.positions += rng.normal(scale=1e-3, size=atoms.positions.shape)
            result = theirs(atoms.positions)
            own = _timed(atoms)
            if n >= WARM_UP:
                times["theirs"].append((result["wall"], result["cpu"]))
                times["ours"].append(own)
            energy = abs(atoms.get_potential_energy() - result["energy"]) / len(atoms)
            forces = float(np.abs(atoms.get_forces() - result["forces"]).max())
            worst["energy_per_atom"] = max(worst["energy_per_atom"], energy)
            worst["forces"] = max(worst["forces"], forces)
            bar.update()
    rows = [
        _row(package, form or "its ASE calculator", times["theirs"], result["peak_MB"]),
        _row("tpcalc", ours.variant, times["ours"], peak_memory()),
    ]
    return {
        "rows": rows, "difference": worst, "times_faster": rows[0]["ms"] / rows[1]["ms"],
        "times_faster_cpu": rows[0]["cpu_ms"] / rows[1]["cpu_ms"], "mode": ours.mode,
        "atoms": len(atoms), "edges": ours.num_edges, "dtype": dtype, "threads": threads,
        "retained_memory": retain,
    }  # fmt: skip


def _timed(atoms: Atoms) -> tuple[float, float]:
    """(wall, CPU) ms of one call."""
    wall, cpu = time.perf_counter(), time.process_time()
    atoms.get_forces()
    return 1e3 * (time.perf_counter() - wall), 1e3 * (time.process_time() - cpu)


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
    add = parser.add_argument
    add("model", help="NAME.safetensors made by tpcalc import")
    add("--against", required=True, help="what computes the original: "
        + ", ".join(AGAINST) + " (our own cg/e3nn)")  # fmt: skip
    add("--original", help="its file; default: the one MODEL was made from, beside MODEL. For "
        "symmetrix the MACE model or its JSON, for nequip also a compiled .nequip.pt2")  # fmt: skip
    add("--python", help="interpreter that has the package")
    add("--system", required=True, help="3bpa, water:64, silicon:3 or a file in a format of ASE")
    add("--variant", help="our tensor-product variant (default: the fastest that can run here)")
    add("--radial", default="network", help="ours: network, or spline (default network)")
    add("--mode", default="eager", help="ours: eager or torchscript (default eager)")
    add("--form", help="of symmetrix: direct (compiled for the model, default) or serial")
    add("--head", help="head of a multi-head model")
    add("--dtype", choices=("float32", "float64"), default="float32")
    add("--threads", type=int, default=1, help="of both (default 1)")
    add("--repeats", type=int, default=8, help="timed calls of each (default 8)")
    add_memory_arguments(parser)
    add("--trust", action="store_true", help="run the original: executes code from its file")


def run(args: argparse.Namespace) -> dict:
    """Print both rows and the differences."""
    original, python, form = _original(args)
    retain_if_asked(args)
    ours = TPCalculator(
        args.model, args.variant, dtype=args.dtype, mode=args.mode, radial=args.radial
    )
    result = bench_imported(
        original, args.against, python, workload(args.system), ours, args.threads, args.repeats,
        args.retain, args.head, form,
    )  # fmt: skip
    result |= {"system": args.system, "radial": args.radial}
    if args.radial == "spline":
        result["spline_error"] = ours.potential.spline_error
        result["spline_slope_error"] = ours.potential.spline_slope_error
    if not args.json:
        _print(result)
    return result


def _original(args: argparse.Namespace) -> tuple[Path, Path, str | None]:
    """(file, interpreter, form) of what is compared with.

    Raises:
        InputError: unknown package or form, no trust, no file, or no interpreter.
    """
    if args.against == "nequix":
        raise InputError("nequix runs on JAX, which is not carried; say --against e3nn")
    check_name("package to compare with", args.against, AGAINST)
    if args.against == "e3nn":
        return Path(args.model), Path(sys.executable), args.mode
    if args.form is not None and args.against != "symmetrix":
        raise InputError(f"--form {args.form} is for symmetrix, not {args.against}")
    if not args.trust:
        raise InputError("the original is run, which executes code from its file; add --trust")
    python = foreign.find_python(args.against, args.python)
    if python is None:
        raise InputError(
            f"no Python with {args.against}: name one with --python, or make one with "
            f"`tpcalc import --make-env {args.against}`"
        )
    form = None
    if args.against == "symmetrix":
        form = check_name("form of symmetrix", args.form or "direct", FORMS)
    return _file(args), python, form


def _file(args: argparse.Namespace) -> Path:
    if args.original is None:
        name = read_manifest(args.model).get("imported", {}).get("file")
        if name is None:
            raise InputError(f"{args.model} is not imported; name the original with --original")
        path = Path(args.model).with_name(name)
    else:
        path = Path(args.original)
    if not path.is_file():
        raise InputError(f"no original at {path}; name it with --original")
    return path


def _print(result: dict) -> None:
    memory = "freed memory kept" if result["retained_memory"] else "plain allocator"
    print(f"{result['system']}: {result['atoms']} atoms, {result['edges']} edges, "
          f"{result['dtype']}, {result['threads']} thread(s), {memory}, {result['mode']}, radial "
          f"{result['radial']}")  # fmt: skip
    if "spline_error" in result:
        print(f"  splines: {result['spline_error']:.1e} of the largest radial function away, "
              f"slopes {result['spline_slope_error']:.1e} of the largest")  # fmt: skip
    for row in result["rows"]:
        print(f"  {row['package']:9s} {row['variant']:20s} {row['ms']:9.2f} ms "
              f"(p95 {row['ms_p95']:.2f}, CPU {row['cpu_ms']:.2f}; {row['calls']} calls), "
              f"{row['peak_MB']:.0f} MB")  # fmt: skip
    d = result["difference"]
    print(f"  {result['times_faster']:.1f} times faster "
          f"({result['times_faster_cpu']:.1f} in CPU time); largest difference "
          f"{d['energy_per_atom']:.1e} eV/atom, {d['forces']:.1e} eV/Å")  # fmt: skip
