"""Where the time of one step goes: parts of the pipeline, and the costliest operators."""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from torch.profiler import ProfilerActivity, profile

from tpcalc.arguments import calculator_options
from tpcalc.bench.workloads import workload
from tpcalc.calculator import TPCalculator
from tpcalc.md import run_description
from tpcalc.tables import format_table


def bench_profile(calculator: TPCalculator, atoms, steps: int = 30, top: int = 12) -> dict:
    """Median times of the parts of one evaluation, and the operators by their own time.

    Args:
        calculator: what runs.
        atoms: moved by 1e-4 Å between steps, so that nothing is cached.
        steps: timed evaluations, after 5 that are not.
        top: operators to list.

    Returns:
        {"parts": [{part, ms, share}], "operators": [{operator, calls, ms, share}], and what ran}.
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
    return {
        "atoms": len(atoms), "total_ms": total, "parts": parts,
        "operators": _operators(evaluator, atoms, top), **run_description(calculator),
    }  # fmt: skip


def _operators(evaluator, atoms, top: int) -> list[dict]:
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
        for e in events[:top]
    ]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `tpcalc bench profile`."""
    from tpcalc.arguments import add_device_arguments

    parser.add_argument("potential", help="NAME.safetensors")
    parser.add_argument("--variant", help="default: the fastest that can run here")
    parser.add_argument("--system", default="3bpa", help="3bpa, water:64, silicon:3 or a file")
    parser.add_argument("--top", type=int, default=12, help="operators to list (12)")
    add_device_arguments(parser)


def run(args: argparse.Namespace) -> dict:
    """`tpcalc bench profile POTENTIAL`."""
    calculator = TPCalculator(args.potential, args.variant, **calculator_options(args))
    result = bench_profile(calculator, workload(args.system), top=args.top)
    if not args.json:
        print(
            f"{result['atoms']} atoms, {result['edges']} edges; {result['variant']} "
            f"({result['variant_class']}), {result['dtype']}, {result['threads']} threads; "
            f"{result['total_ms']:.3f} ms"
        )
        print(format_table(result["parts"], {"part": "part", "ms": "ms .3f", "share": "% .0f"}))
        print()
        columns = {"operator": "operator", "calls": "calls", "ms": "own ms .3f", "share": "% .0f"}
        print(format_table(result["operators"], columns))
    return result
