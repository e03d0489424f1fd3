"""Where the time of one step goes: parts of the pipeline, kinds of work, costliest operators."""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from tpcalc.arguments import calculator_options
from tpcalc.bench.workloads import workload
from tpcalc.calculator import TPCalculator
from tpcalc.errors import InputError, MissingDependency
from tpcalc.md import run_description
from tpcalc.tables import format_table

# kind of work -> what its operators' names begin with; the first that fits
KINDS = {
    "convolution": ("tpcalc::conv",),
    "radial functions": ("tpcalc::radial_table", "tpcalc::mlp"),
    "symmetric product": ("tpcalc::poly",),
    "spherical harmonics": ("tpcalc::harmonics",),
    "gate": ("tpcalc::gate",),
    "matrix products": ("tpcalc::linear", *(f"aten::{n}" for n in (
        "mm", "addmm", "bmm", "baddbmm", "matmul", "linear", "einsum", "mkldnn"))),
    "gather and sum": tuple(f"aten::{n}" for n in ("index", "gather", "scatter", "embedding")),
    "memory and copies": tuple(f"aten::{n}" for n in (
        "copy", "_to_copy", "to", "empty", "zero", "new_", "fill", "cat", "stack", "clone",
        "contiguous", "resize", "ones", "full", "_local_scalar", "item")),
    "views": tuple(f"aten::{n}" for n in (
        "view", "_unsafe_view", "reshape", "_reshape", "t", "transpose", "narrow", "slice",
        "select", "expand", "unsqueeze", "squeeze", "as_strided", "split", "permute", "detach",
        "alias", "flatten", "unflatten", "unbind")),
    "elementwise and sums": ("aten::",),
    "autograd and interpreter": ("",),
}  # fmt: skip
_WHOLE_NAMES = {"aten::t", "aten::to", "aten::mm"}  # others begin like them
BAR = 30  # characters of a bar of 100 %
FORMATS = (".png", ".svg", ".pdf")


def bench_profile(calculator: TPCalculator, atoms, steps: int = 30, top: int = 12) -> dict:
    """Median times of the parts of one evaluation, and the operators by their own time.

    Args:
        calculator: what runs.
        atoms: moved by 1e-4 Å between steps, so that nothing is cached.
        steps: timed evaluations, after 5 that are not.
        top: operators to list.

    Returns:
        {"parts": [{part, ms, share}], "kinds": [{kind, ms, share}], "operators": [{operator,
        calls, ms, share}], and what ran}. `kinds` divide the network's time as the profiler
        divides it among operators, forward and backward together.
    """
    evaluator = calculator.evaluators[0]
    times: dict[str, list[float]] = {}
    species = evaluator.species(atoms.numbers)
    for step in range(steps + 5):
        atoms.positions[0, step % 3] += 1e-4
        marks = [("", time.perf_counter())]

        def mark(name, marks=marks):
            marks.append((name, time.perf_counter()))

        graph = evaluator.neighbors.update(
            atoms.positions, atoms.cell.array, atoms.pbc, atoms.numbers
        )
        mark("neighbour list")
        edge_index, vectors = evaluator.tensors(graph)
        vectors.requires_grad_(True)
        mark("to tensors")
        energy = evaluator.run(species, edge_index, vectors, graph.num_nodes)
        mark("network forward")
        torch.autograd.grad(energy.sum(), vectors)
        mark("network backward")
        if step >= 5:
            for (_, begin), (name, end) in zip(marks, marks[1:]):
                times.setdefault(name, []).append(end - begin)
    calculator.calculate(atoms)
    parts = [{"part": name, "ms": 1e3 * statistics.median(t)} for name, t in times.items()]
    total = sum(row["ms"] for row in parts)
    for row in parts:
        row["share"] = 100 * row["ms"] / total
    operators = _operators(evaluator, atoms)
    return {
        "atoms": len(atoms), "total_ms": total, "parts": parts, "kinds": _kinds(parts, operators),
        "operators": operators[:top], **run_description(calculator),
    }  # fmt: skip


def kind_of(operator: str) -> str:
    """Which of `KINDS` an operator of the profiler belongs to."""

    def fits(begin: str) -> bool:
        if begin in _WHOLE_NAMES:
            return operator == begin
        return operator.startswith(begin)

    return next(kind for kind, begins in KINDS.items() if any(map(fits, begins)))


def _kinds(parts: list[dict], operators: list[dict]) -> list[dict]:
    """Work outside the network as it was timed, and the network's time by kinds; largest first."""
    network = sum(row["share"] for row in parts if row["part"].startswith("network"))
    whole = sum(row["ms"] for row in parts)
    shares = {row["part"]: row["share"] for row in parts if not row["part"].startswith("network")}
    for row in operators:
        kind = kind_of(row["operator"])
        shares[kind] = shares.get(kind, 0.0) + row["share"] * network / 100
    rows = [{"kind": k, "ms": whole * v / 100, "share": v} for k, v in shares.items()]
    return sorted(rows, key=lambda row: -row["share"])


def _operators(evaluator, atoms) -> list[dict]:
    structure = (atoms.positions, atoms.cell.array, atoms.pbc, atoms.numbers)
    calls = 5
    with profile(activities=[ProfilerActivity.CPU]) as prof:
        for _ in range(calls):
            evaluator(*structure)
    events = sorted(prof.key_averages(), key=lambda e: -e.self_cpu_time_total)
    total = sum(e.self_cpu_time_total for e in events)
    return [
        {
            "operator": e.key,
            "calls": e.count // calls,
            "ms": e.self_cpu_time_total / calls / 1e3,
            "share": 100 * e.self_cpu_time_total / total,
        }
        for e in events
    ]


def with_bars(rows: list[dict]) -> list[dict]:
    """The rows with a bar of their share, for a terminal."""
    return [{**row, "bar": "█" * round(BAR * row["share"] / 100) or "▏"} for row in rows]


def check_plot(path: Path) -> None:
    """Raises:
    InputError: a kind of file that is not drawn, or no folder for it.
    """
    if path.suffix not in FORMATS:
        raise InputError(f"--plot {str(path)!r} ends in none of {', '.join(FORMATS)}")
    if not path.parent.is_dir():
        raise InputError(f"no folder {str(path.parent)!r} to write {path.name} into; make it first")


def draw(result: dict, path: Path) -> None:
    """Bars of the parts and of the kinds of work, in percent of the step.

    Raises:
        MissingDependency: matplotlib is absent.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise MissingDependency("--plot needs matplotlib: pip install 'tpcalc[report]'") from error
    figure = Figure(figsize=(8, 5), layout="constrained")
    numbers = len(result["parts"]), len(result["kinds"])
    axes = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": numbers})
    for ax, rows, key in zip(axes, (result["parts"], result["kinds"]), ("part", "kind")):
        bars = ax.barh([row[key] for row in rows], [row["share"] for row in rows])
        ax.bar_label(bars, [f"{row['share']:.0f} %  {row['ms']:.2f} ms" for row in rows], padding=3)
        ax.invert_yaxis()
        ax.margins(x=0.25)
    axes[0].set_title(_heading(result), fontsize=9)
    axes[1].set_xlabel("% of the step")
    figure.savefig(path)


def _heading(result: dict) -> str:
    return (
        f"{result['atoms']} atoms, {result['edges']} edges; {result['variant']} "
        f"({result['variant_class']}), {result['dtype']}, {result['threads']} thread(s); "
        f"{result['total_ms']:.3f} ms"
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `tpcalc bench profile`."""
    from tpcalc.arguments import add_device_arguments

    parser.add_argument("potential", help="NAME.safetensors")
    parser.add_argument("--variant", help="default: the fastest that can run here")
    parser.add_argument("--system", default="3bpa", help="3bpa, water:64, silicon:3 or a file")
    parser.add_argument("--top", type=int, default=12, help="operators to list (12)")
    parser.add_argument("-o", "--plot", help=f"also draw it: NAME{', NAME'.join(FORMATS)}")
    add_device_arguments(parser)
    parser.set_defaults(threads=1)


def run(args: argparse.Namespace) -> dict:
    """`tpcalc bench profile POTENTIAL`."""
    if args.plot:
        check_plot(Path(args.plot))
    calculator = TPCalculator(args.potential, args.variant, **calculator_options(args))
    result = bench_profile(calculator, workload(args.system), top=args.top)
    if not args.json:
        print(_heading(result))
        for title in ("part", "kind"):
            columns = {title: title, "ms": "ms .3f", "share": "% .0f", "bar": ""}
            print(format_table(with_bars(result[f"{title}s"]), columns), end="\n\n")
        columns = {"operator": "operator", "calls": "calls", "ms": "own ms .3f", "share": "% .0f"}
        print(format_table(result["operators"], columns))
    if args.plot:
        draw(result, Path(args.plot))
    return result
