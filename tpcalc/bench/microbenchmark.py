"""`tpcalc bench microbenchmark`: the published microbenchmarks of the products, with our code.

Places: `settings` (SISO, SIMO, MIMO of *The Price of Freedom*: batch 10,000, one channel,
float32), and the three of *Gaunt Tensor Products*: `interaction` (node x node), `convolution`
(node x edge, gathered and summed) and `many-body`.
"""

from __future__ import annotations

import argparse
import csv
import itertools
from collections.abc import Callable
from pathlib import Path

import torch

from tpcalc.analysis.cost import CostCounter
from tpcalc.arguments import add_memory_arguments, retain_if_asked, whole_numbers
from tpcalc.bench.microbenchmark_cases import (
    DEFAULT_BATCH,
    DEFAULT_CHANNELS,
    DEFAULT_VARIANTS,
    Case,
    Conditions,
    make_cases,
)
from tpcalc.bench.turns import TURNS, Clock, in_turns, median_ms, p95_ms
from tpcalc.errors import InputError, MissingDependency, check_name
from tpcalc.storage import DTYPE_NAMES
from tpcalc.tables import format_table

PLACES = tuple(DEFAULT_VARIANTS)
COLUMNS = {
    "place": "place",
    "lmax": "L",
    "variant": "variant",
    "class": "class",
    "batch": "batch",
    "channels": "channels",
    "dtype": "dtype",
    "device": "device",
    "ms": "forward/ms .3f",
    "p95_ms": "p95 .3f",
    "times": "times faster .2f",
    "first_ms": "first/ms .3f",
    "first_times": "(first) .2f",
    "both_ms": "fwd+bwd/ms .3f",
    "both_times": "(both) .2f",
    "dof": "dof",
    "us_per_dof": "us/dof .1f",
    "gflops": "GFLOP/s .2f",
    "gbytes": "GB/s .2f",
    "skipped": "not run",
}
PLOTTED = {"ms": "ms", "us_per_dof": "µs per degree of freedom", "gflops": "GFLOP/s",
           "gbytes": "GB/s"}  # fmt: skip
SWEPT = ("batch", "channels", "dtype", "device")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Places, sizes and conditions; comma lists are swept, every value with every other."""
    add = parser.add_argument
    add("--places", default="settings", help="comma list of " + ", ".join(PLACES))
    add("--variants", help="comma list; default: per place; the first is compared with")
    add("--lmax", default="1,2,3", help="comma list of degrees (default 1,2,3)")
    add("--batch", help="comma list: pairs, nodes or atoms; default 10000 (settings), 100 "
        "(interaction), 200 (convolution, many-body)")  # fmt: skip
    add("--channels", help="comma list; default 1 (settings), 64 (convolution), 128 elsewhere")
    add("--degree", default="40", help="comma list: edges an atom in the convolution (default 40)")
    add("--correlation", type=int, default=3, help="of many-body (default 3)")
    add("--outputs", default="0e+1o", help="irreps that many-body keeps (default 0e+1o)")
    add("--dtype", default="float32", help="comma list of " + ", ".join(DTYPE_NAMES))
    add("--device", default="cpu", help="comma list: cpu, cuda (default cpu)")
    add("--threads", type=int, default=1)
    add("--repeat", type=int, default=20, help="timed calls each (default 20)")
    add("--backward", action="store_true", help="time forward + backward too")
    add_memory_arguments(parser)
    add("--csv", metavar="FILE")
    add("--plot", metavar="FILE", help="time, time per degree of freedom, GFLOP/s and GB/s")


def run(args: argparse.Namespace) -> dict:
    """Measure; print one table and write what was asked for."""
    sweep = _sweep(args)
    retain_if_asked(args)
    rows: list[dict] = []
    with Clock(args.threads) as clock:
        for place, lmax, at in sweep:
            variants = (args.variants or DEFAULT_VARIANTS[place]).split(",")
            cases = make_cases(place, lmax, variants, at)
            _time(cases, clock.of(at.device), args.repeat, args.backward, f"{place}, L = {lmax}")
            rows += [case.row for case in cases]
    if args.csv:
        _write_csv(rows, args.csv)
    if args.plot:
        plot(rows, args.plot)
    if not args.json:
        memory = "freed memory kept" if args.retain else "plain allocator"
        print(f"{args.threads} thread(s), medians of {args.repeat} {TURNS}, {clock.name} (GPU: "
              f"wall time, synchronised), {memory}; TorchScript; FLOPs and bytes are counted in "
              f"eager mode; compared with the first variant of each block")  # fmt: skip
        print(format_table(rows, {k: v for k, v in COLUMNS.items() if any(k in r for r in rows)}))
    return {"threads": args.threads, "repeat": args.repeat, "clock": clock.name,
            "retained_memory": args.retain, "rows": rows}  # fmt: skip


def _sweep(args) -> list[tuple[str, int, Conditions]]:
    """Every (place, degree, conditions) that was asked for.

    Raises:
        InputError: a list that cannot be read, or a count below one.
        MissingDependency: a GPU is asked for and absent.
    """
    degrees = whole_numbers("--lmax", args.lmax)
    edges = whole_numbers("--degree", args.degree)
    places, dtypes, devices = (text.split(",") for text in (args.places, args.dtype, args.device))
    for place in places:
        check_name("place", place, PLACES)
    for dtype in dtypes:
        check_name("dtype", dtype, DTYPE_NAMES)
    for name in ("threads", "repeat", "correlation"):
        if getattr(args, name) < 1:
            raise InputError(f"--{name} is {getattr(args, name)}; at least 1 is needed")
    for device in devices:
        if device != "cpu" and not torch.cuda.is_available():
            raise MissingDependency(f"--device {device}: torch sees no GPU here")
    found = []
    for place in places:
        batches = whole_numbers("--batch", args.batch or str(DEFAULT_BATCH[place]))
        channels = whole_numbers("--channels", args.channels or str(DEFAULT_CHANNELS[place]))
        around = edges if place == "convolution" else edges[:1]
        for lmax, c, b, e, dtype, device in itertools.product(
            degrees, channels, batches, around, dtypes, devices
        ):
            at = Conditions(b, c, dtype, device, e, args.correlation, args.outputs)
            found.append((place, lmax, at))
    return found


def _time(cases: list[Case], clock: Callable, repeat: int, backward: bool, title: str) -> None:
    """Fill in the rows of the cases that run; they take turns."""
    jobs = {}
    for k, case in enumerate(cases):
        if case.product is not None:
            jobs[k, "ms"] = _forward(case)
            if backward:
                jobs[k, "both_ms"] = _both(case)
    times = in_turns(jobs, repeat, clock, title)
    for (k, name), seconds in times.items():
        row = cases[k].row
        row[name] = median_ms(seconds.mean)
        if name == "ms":
            row["p95_ms"], row["first_ms"] = p95_ms(seconds.mean), median_ms(seconds.first)
            _rates(row, cases[k].cost)
    _compare([case.row for case in cases])


def _forward(case: Case) -> Callable:
    def job():
        with torch.no_grad():
            case.product(*case.inputs)

    return job


def _both(case: Case) -> Callable:
    inputs = [t.detach().requires_grad_(t.is_floating_point()) for t in case.inputs]
    leaves = [t for t in inputs if t.requires_grad]

    def job():
        torch.autograd.grad(case.product(*inputs).sum(), leaves)

    return job


def _rates(row: dict, cost: CostCounter) -> None:
    """Time per degree of freedom, operations and bytes a second, from the median."""
    if row["dof"]:
        row["us_per_dof"] = 1e3 * row["ms"] / row["dof"]
    if not cost.unknown:
        row["gflops"] = cost.flops / row["ms"] / 1e6
        row["gbytes"] = cost.bytes / row["ms"] / 1e6


def _compare(rows: list[dict]) -> None:
    """Times faster than the first variant of the same place that ran."""
    for name in ("times", "first_times", "both_times"):
        key = name.replace("times", "ms")
        first: dict[str, float] = {}
        for row in rows:
            if key in row:
                row[name] = first.setdefault(row["place"], row[key]) / row[key]


def _write_csv(rows: list[dict], path: str) -> None:
    with Path(path).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(COLUMNS), restval="", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def plot(rows: list[dict], path: str) -> None:
    """`PLOTTED` against degree, one column a place, one line a variant and conditions.

    Raises:
        MissingDependency: matplotlib is absent.
    """
    try:
        from matplotlib import pyplot
    except ModuleNotFoundError as error:
        raise MissingDependency("--plot needs matplotlib: pip install 'tpcalc[report]'") from error
    places = list(dict.fromkeys(row["place"] for row in rows))
    shown = [key for key in PLOTTED if any(key in row for row in rows)]
    size = (4 * len(places), 3.2 * max(len(shown), 1))
    figure, axes = pyplot.subplots(max(len(shown), 1), len(places), figsize=size, squeeze=False)
    markers = "osv^D*Px<>"
    for line, key in zip(axes, shown):
        for axis, place in zip(line, places):
            curves: dict[str, list[tuple[int, float]]] = {}
            here = [row for row in rows if row["place"] == place]
            swept = [k for k in SWEPT if len({row[k] for row in here}) > 1]
            for row in here:
                if key in row:
                    label = " ".join(str(row[k]) for k in ("variant", *swept))
                    curves.setdefault(label, []).append((row["lmax"], row[key]))
            for n, (label, points) in enumerate(curves.items()):
                axis.plot(*zip(*points), marker=markers[n % len(markers)], label=label)
            axis.set(title=place, xlabel="L", ylabel=PLOTTED[key])
            axis.set_xticks(sorted({row["lmax"] for row in here}))
            if curves:
                axis.set_yscale("log")
                axis.legend(fontsize=6)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
