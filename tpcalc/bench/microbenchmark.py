"""`tpcalc bench microbenchmark`: the published microbenchmarks of the products, with our code.

Places: `settings` (SISO, SIMO, MIMO of *The Price of Freedom*: batch 10,000, one channel,
float32), `interaction` (node x node) and `many-body` of *Gaunt Tensor Products*.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from tpcalc.analysis.cost import CostCounter
from tpcalc.analysis.expressivity import SETTINGS, expressivity, setting_irreps
from tpcalc.errors import InputError, MissingDependency, check_name
from tpcalc.export import scripted
from tpcalc.kernels.allocator import retain_freed_memory
from tpcalc.progress import progress
from tpcalc.storage import DTYPE_NAMES
from tpcalc.tables import format_table
from tpcalc.tensor_products import many_body, tensor_product

PLACES = ("settings", "interaction", "many-body")
DEFAULTS = {
    "settings": "cg/e3nn,cg/reference,cg/sparse,gaunt/grid,gaunt/fourier,matrix/matmul",
    "interaction": "cg/e3nn,cg/sparse,gaunt/grid,gaunt/fourier,gaunt_full/grid,matrix/matmul",
    "many-body": "cg/u_tensor,cg/polynomial,cg/fused,gaunt/grid,gaunt/fourier",
}
COLUMNS = {
    "place": "place",
    "lmax": "L",
    "variant": "variant",
    "class": "class",
    "ms": "forward/ms .3f",
    "p95_ms": "p95 .3f",
    "both_ms": "fwd+bwd/ms .3f",
    "times": "times faster .1f",
    "both_times": "(both) .1f",
    "dof": "dof",
    "us_per_dof": "us/dof .1f",
    "gflops": "GFLOP/s .2f",
    "gbytes": "GB/s .2f",
    "skipped": "not run",
}
# bytes of one output beyond which a case is left out rather than swapped to disk
MEMORY = 1.5e9


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Places, sizes and conditions."""
    add = parser.add_argument
    add("--places", default="settings", help="comma list of " + ", ".join(PLACES))
    add("--variants", help="comma list; default: per place")
    add("--lmax", default="1,2,3", help="comma list of degrees (default 1,2,3)")
    add("--batch", type=int, help="default 10000 (settings), 100 (interaction), 200 (many-body)")
    add("--channels", type=int, help="default 1 (settings), 128 elsewhere")
    add("--correlation", type=int, default=3, help="of many-body (default 3)")
    add("--outputs", default="0e+1o", help="irreps that many-body keeps (default 0e+1o)")
    add("--retain", action="store_true",
        help="keep freed memory in the process (mallopt), for all variants")  # fmt: skip
    add("--dtype", choices=tuple(DTYPE_NAMES), default="float32")
    add("--device", default="cpu")
    add("--threads", type=int, default=1)
    add("--repeat", type=int, default=20, help="timed calls each (default 20)")
    add("--backward", action="store_true", help="time forward + backward too")
    add("--csv", metavar="FILE")
    add("--plot", metavar="FILE", help="time against degree, one panel a place")


def run(args: argparse.Namespace) -> dict:
    """Measure; print one table and write what was asked for."""
    degrees = args.lmax.split(",")
    if not all(d.isdigit() and int(d) > 0 for d in degrees):
        raise InputError(f"--lmax {args.lmax!r} is not a comma list of whole numbers >= 1")
    places = args.places.split(",")
    for place in places:
        check_name("place", place, PLACES)
    for name in ("batch", "channels", "threads", "repeat"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise InputError(f"--{name} is {value}; at least 1 is needed")
    if args.device != "cpu" and not torch.cuda.is_available():
        raise MissingDependency(f"--device {args.device}: torch sees no GPU here")
    if args.retain and not retain_freed_memory():
        raise InputError("--retain needs glibc; leave it out")
    before = torch.get_num_threads()
    torch.set_num_threads(args.threads)
    try:
        rows = [row for place in places for row in _place(place, [int(d) for d in degrees], args)]
    finally:
        torch.set_num_threads(before)
    if args.csv:
        _write_csv(rows, args.csv)
    if args.plot:
        plot(rows, args.plot)
    clock = _clock(args)[1]
    if not args.json:
        print(f"{args.dtype}, {args.device}, {args.threads} thread(s), medians of {args.repeat}, "
              f"{clock}; TorchScript; FLOPs and bytes are counted in eager mode")  # fmt: skip
        print(format_table(rows, COLUMNS))
    return {"dtype": args.dtype, "device": args.device, "threads": args.threads,
            "repeat": args.repeat, "clock": clock, "rows": rows}  # fmt: skip


def _clock(args) -> tuple[Callable, str]:
    if args.device != "cpu":

        def synchronised():
            torch.cuda.synchronize()
            return time.perf_counter()

        return synchronised, "wall time, synchronised"
    if args.threads == 1:
        return time.process_time, "process CPU time"
    return time.perf_counter, "wall time"


def _place(place: str, degrees: list[int], args) -> list[dict]:
    """All rows of one place; the variants of one degree take turns."""
    variants = (args.variants or DEFAULTS[place]).split(",")
    make = {"settings": _setting_cases, "interaction": _interaction_cases,
            "many-body": _many_body_cases}[place]  # fmt: skip
    rows = []
    with progress(len(degrees), place, "degree") as bar:
        for lmax in degrees:
            cases = make(lmax, variants, args)
            _time(cases, args)
            rows += [case["row"] for case in cases]
            bar.update()
    return rows


def _case(row: dict, product, inputs: tuple, args, dof: int | None = None) -> dict:
    """One thing to time; too large an output is said, not run."""
    row["class"] = type(product).__name__
    row["dof"] = dof
    size = inputs[0].shape[0] * product.irreps_out.dim * inputs[0].element_size()
    if size > MEMORY:
        row["skipped"] = f"output of {size / 1e9:.1f} GB"
        return {"row": row}
    product = product.to(device=args.device, dtype=DTYPE_NAMES[args.dtype])
    inputs = tuple(t.to(args.device) for t in inputs)
    with torch.no_grad(), CostCounter() as cost:
        product(*inputs)
    return {"row": row, "product": scripted(product), "inputs": inputs, "cost": cost}


def _normal(args, *shape) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(*shape, generator=generator, dtype=torch.float32).to(DTYPE_NAMES[args.dtype])


def parity_of(variant: str) -> str:
    """Labels that let a function show all it can: see `setting_irreps`."""
    function = variant.split("/")[0].split(":")[0]
    return {"matrix": "none", "gaunt_full": "both", "vector": "both"}.get(function, "natural")


def _setting_cases(lmax: int, variants: list[str], args) -> list[dict]:
    cases = []
    batch, channels = args.batch or 10000, args.channels or 1
    for setting in SETTINGS:
        for variant in variants:
            parity = parity_of(variant)
            irreps = setting_irreps(setting, lmax, parity)
            irreps = tuple(text.replace("1x", f"{channels}x") for text in irreps)
            try:
                product = tensor_product(variant, *irreps)
            except InputError as error:
                if "no path leads" in str(error):
                    continue  # an empty computation: PoF's SISO at odd L
                raise
            inputs = (
                _normal(args, batch, product.irreps_in1.dim),
                _normal(args, batch, product.irreps_in2.dim),
                _normal(args, product.weight_numel),
            )
            dof = degrees_of_freedom(variant, setting, lmax)
            row = {"place": setting, "lmax": lmax, "variant": variant}
            cases.append(_case(row, product, inputs, args, dof))
    return cases


def degrees_of_freedom(variant: str, setting: str, lmax: int) -> int | None:
    """Expressivity (Jacobian rank); beyond degree 4 by its formula, None where there is none."""
    if lmax <= 4:
        return expressivity(variant, setting, lmax, parity_of(variant))
    n, function = lmax + 1, variant.split("/")[0]
    if setting == "MIMO":
        return {"cg": n * (n + 1) * (2 * n + 1) // 6, "gaunt": 4 * lmax + 1,
                "matrix": 4 * lmax + 1, "gaunt_full": 8 * lmax - 2}.get(function)  # fmt: skip
    if setting == "SIMO":
        return {"cg": n, "gaunt": n, "matrix": 2 * lmax + 1}.get(function)
    return {"cg": 1, "gaunt": 1, "matrix": 1}.get(function)


def _interaction_cases(lmax: int, variants: list[str], args) -> list[dict]:
    """Node features with themselves, channel by channel, one set of weights, outputs <= lmax."""
    channels, batch = args.channels or 128, args.batch or 100
    irreps = "+".join(f"{channels}x{l}{'eo'[l % 2]}" for l in range(lmax + 1))
    cases = []
    for variant in variants:
        product = tensor_product(variant, irreps, irreps, irreps)
        inputs = (_normal(args, batch, product.irreps_in1.dim),
                  _normal(args, batch, product.irreps_in2.dim),
                  _normal(args, product.weight_numel))  # fmt: skip
        row = {"place": "interaction", "lmax": lmax, "variant": variant}
        cases.append(_case(row, product, inputs, args))
    return cases


def _many_body_cases(lmax: int, variants: list[str], args) -> list[dict]:
    """Powers up to `correlation`, four species, outputs `--outputs`."""
    channels, batch = args.channels or 128, args.batch or 200
    irreps = "+".join(f"{channels}x{l}{'eo'[l % 2]}" for l in range(lmax + 1))
    species = torch.arange(batch) % 4
    cases = []
    for variant in variants:
        product = many_body(variant, irreps, args.outputs, args.correlation, 4)
        inputs = (_normal(args, batch, product.irreps_in.dim), species)
        row = {"place": f"many-body {args.correlation}", "lmax": lmax, "variant": variant}
        cases.append(_case(row, product, inputs, args))
    return cases


def _time(cases: list[dict], args) -> None:
    """Fill in the rows; three rounds of warm-up, then the cases in turn."""
    clock, _ = _clock(args)
    live = [case for case in cases if "product" in case]
    times: dict[str, list[list[float]]] = {"ms": [[] for _ in live], "both_ms": [[] for _ in live]}
    for _ in range(3 + args.repeat):
        for k, case in enumerate(live):
            start = clock()
            with torch.no_grad():
                case["product"](*case["inputs"])
            times["ms"][k].append(clock() - start)
            if args.backward:
                inputs = [t.detach().requires_grad_(t.is_floating_point()) for t in case["inputs"]]
                leaves = [t for t in inputs if t.requires_grad]
                start = clock()
                out = case["product"](*inputs)
                torch.autograd.grad(out.sum(), leaves)
                times["both_ms"][k].append(clock() - start)
    for k, case in enumerate(live):
        row, seconds = case["row"], sorted(times["ms"][k][3:])
        median = statistics.median(seconds)
        row["ms"], row["p95_ms"] = 1e3 * median, 1e3 * seconds[int(0.95 * (len(seconds) - 1))]
        if args.backward:
            row["both_ms"] = 1e3 * statistics.median(times["both_ms"][k][3:])
        first = live[0]["row"]  # the variants of a place are compared with its first
        row["times"] = first["ms"] / row["ms"]
        if args.backward:
            row["both_times"] = first["both_ms"] / row["both_ms"]
        if row["dof"]:
            row["us_per_dof"] = 1e6 * median / row["dof"]
        if not case["cost"].unknown:
            row["gflops"] = case["cost"].flops / median / 1e9
            row["gbytes"] = case["cost"].bytes / median / 1e9


def _write_csv(rows: list[dict], path: str) -> None:
    with Path(path).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(COLUMNS), restval="", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def plot(rows: list[dict], path: str) -> None:
    """Time against degree, logarithmic, one panel a place.

    Raises:
        MissingDependency: matplotlib is absent.
    """
    try:
        from matplotlib import pyplot
    except ModuleNotFoundError as error:
        raise MissingDependency("--plot needs matplotlib: pip install 'tpcalc[report]'") from error
    places = list(dict.fromkeys(row["place"] for row in rows))
    figure, axes = pyplot.subplots(1, len(places), figsize=(4 * len(places), 3.6), squeeze=False)
    markers = "osv^D*Px<>"
    for axis, place in zip(axes[0], places):
        mine = [row for row in rows if row["place"] == place and "ms" in row]
        for n, variant in enumerate(dict.fromkeys(row["variant"] for row in mine)):
            points = [(row["lmax"], row["ms"]) for row in mine if row["variant"] == variant]
            axis.plot(*zip(*points), marker=markers[n % len(markers)], label=variant)
        axis.set(title=place, xlabel="L", ylabel="ms", yscale="log")
        axis.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
