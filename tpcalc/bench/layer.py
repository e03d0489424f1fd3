"""`tpcalc bench layer`: one convolution per variant, timed in turn in one process."""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from e3nn.o3 import Irreps

from tpcalc.arguments import add_memory_arguments, retain_if_asked, whole_numbers
from tpcalc.bench.turns import TURNS, Clock, check_counts, in_turns, median_ms, p95_ms
from tpcalc.errors import InputError, check_name
from tpcalc.export import scripted
from tpcalc.kernels.ops import load_ops
from tpcalc.storage import DTYPE_NAMES
from tpcalc.tables import format_table
from tpcalc.tensor_products import convolution, parse_variant, tensor_product
from tpcalc.tensor_products.shared.edge_matrix import EdgeMatrixConvolution

COLUMNS = {
    "variant": "variant",
    "class": "class",
    "forward_ms": "forward/ms .3f",
    "forward_p95_ms": "p95 .3f",
    "both_ms": "fwd+bwd/ms .3f",
    "both_p95_ms": "p95 .3f",
    "forward_times": "times faster .2f",
    "both_times": "(both) .2f",
    "first_ms": "first/ms .3f",
    "first_times": "(first) .2f",
    "difference": "difference .1e",
}
PEAK_COLUMNS = {
    "gflops": "GFLOP/s .1f",
    "of_peak": "% of peak .1f",
    "first_of_peak": "(first) .1f",
}


FLOOR = "(gather, weigh, sum)"


class GatherWeighSum(EdgeMatrixConvolution):
    """`shared/edge_matrix` with the unit matrix for every edge: out_n = sum of w_e x_s(e).

    The least that a form made of PyTorch ops does, since none of them joins two of these steps.
    """

    def product(self, matrices: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return x


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Sizes, variants and conditions of the comparison."""
    add = parser.add_argument
    add(
        "--variants",
        default="cg/e3nn,cg/grouped,cg/fused",
        help="comma list; the first is what the others are compared with",
    )
    add("--lmax", default="1,2,3", help="comma list of degrees (default 1,2,3)")
    add("--channels", type=int, default=64, help="per degree (default 64)")
    add("--edges", type=int, default=8000, help="default 8000")
    add("--nodes", type=int, default=200, help="default 200")
    add(
        "--paths",
        choices=("natural", "all"),
        default="natural",
        help="natural: outputs of parity (-1)^l only; all: pseudo-tensors too",
    )
    add("--dtype", choices=tuple(DTYPE_NAMES), default="float32")
    add("--threads", type=int, default=1, help="default 1")
    add("--repeat", type=int, default=21, help="timed calls each (default 21)")
    add(
        "--floor",
        action="store_true",
        help="add what no form in PyTorch ops avoids: gather, weigh, sum; no product at all",
    )
    add(
        "--peak",
        action="store_true",
        help="also measure this core's float32 multiply-adds, and each forward's share of them",
    )
    add_memory_arguments(parser)


def run(args: argparse.Namespace) -> dict:
    """Measure every degree; prints a table each unless --json."""
    variants = args.variants.split(",")
    retain_if_asked(args)
    results = []
    for lmax in whole_numbers("--lmax", args.lmax, least=0):
        result = bench_layer(
            variants, lmax, args.channels, args.edges, args.nodes, args.paths, args.dtype,
            args.threads, args.repeat, args.floor, args.peak,
        )  # fmt: skip
        result["retained_memory"] = args.retain
        results.append(result)
        if not args.json:
            columns = COLUMNS | PEAK_COLUMNS if args.peak else COLUMNS
            print(_heading(result), format_table(result["variants"], columns), "", sep="\n")
    return {"results": results}


def bench_layer(
    variants: list[str], lmax: int, channels: int = 64, edges: int = 8000, nodes: int = 200,
    paths: str = "natural", dtype: str = "float32", threads: int = 1, repeat: int = 21,
    floor: bool = False, peak: bool = False,
) -> dict:  # fmt: skip
    """Forward, and forward with all three gradients, of each variant as TorchScript.

    `floor` adds `GatherWeighSum` as a last line. `peak` adds the float32 multiply-adds of one core
    as one more job (the fastest of its turns counts), the share of `useful_operations` a second in
    that peak, and how long a scripted x + 1 takes at first after a turn of the first variant
    (`call_ms`): no call there is shorter.

    The variants take turns of at least `turns.TURN`; `first` is the first call of a turn, which
    finds nothing of its own in the caches. With one thread the process's CPU time is measured
    (others on the machine do not count), with more the wall time. Medians and 95th percentiles of
    `repeat`.

    Raises:
        InputError: an unknown name, a count below one, or `peak` with more than one thread or
            float64.
    """
    check_name("dtype", dtype, DTYPE_NAMES)
    check_counts(channels=channels, edges=edges, nodes=nodes, threads=threads, repeat=repeat)
    if peak and (threads > 1 or dtype != "float32"):
        raise InputError(
            f"--peak is one core's in float32, not that of {threads} threads in {dtype}; "
            "leave out --threads and --dtype"
        )
    with Clock(threads) as clock:
        layers = _layers(variants, lmax, channels, paths, DTYPE_NAMES[dtype])
        num_paths = len(next(iter(layers.values())).tensor_product.paths)
        if floor:
            natural = _layers(["shared/edge_matrix"], lmax, channels, "natural", DTYPE_NAMES[dtype])
            tensor_product = natural["shared/edge_matrix"].tensor_product
            layers[FLOOR] = GatherWeighSum(tensor_product).to(DTYPE_NAMES[dtype])
        jobs = _jobs(layers, nodes, edges, DTYPE_NAMES[dtype])
        times = in_turns(_with_peak(jobs) if peak else jobs, repeat, clock.now, "layer")
    rows = _rows(layers, jobs, times)
    if peak:
        gflops = 1e-9 * _spin() / min(times["peak", "forward"].mean)
        _add_shares(rows, layers, edges, gflops)
    return {
        "lmax": lmax, "channels": channels, "edges": edges, "nodes": nodes, "paths": paths,
        "num_paths": num_paths, "dtype": dtype,
        "threads": threads, "repeat": repeat,
        "clock": clock.name, "peak_gflops": gflops if peak else None,
        "call_ms": median_ms(times["call", "forward"].first) if peak else None,
        "variants": rows,
    }  # fmt: skip


def _layers(variants, lmax, channels, paths, dtype) -> dict[str, torch.nn.Module]:
    """name -> convolution; all of one table of irreps."""
    node = Irreps([(channels, (l, (-1) ** l)) for l in range(lmax + 1)])
    keep = node if paths == "natural" else None
    edge = Irreps.spherical_harmonics(lmax)
    layers = {}
    for name in variants:
        parse_variant(name)
        layers[name] = convolution(name, node, edge, keep).to(dtype)
    return layers


def _jobs(layers: dict, nodes: int, edges: int, dtype) -> dict[tuple[str, str], Callable]:
    """(variant, "forward" or "both") -> a call; inputs of one function are shared."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    receivers = torch.arange(edges) * nodes // edges
    senders = torch.randint(nodes, (edges,), generator=generator)
    vectors, weights, jobs = normal(edges, 3), {}, {}
    feats = normal(nodes, next(iter(layers.values())).irreps_node.dim).requires_grad_(True)
    for name, layer in layers.items():
        if layer.weight_numel not in weights:
            weights[layer.weight_numel] = normal(edges, layer.weight_numel).requires_grad_(True)
        w = weights[layer.weight_numel]
        basis = layer.edge_basis(vectors).detach().requires_grad_(True)
        probe = normal(nodes, layer.irreps_out.dim)
        script = scripted(layer)

        def forward(script=script, basis=basis, w=w):
            with torch.no_grad():
                return script(feats, basis, w, senders, receivers, nodes)

        def both(script=script, basis=basis, w=w, probe=probe):
            out = script(feats, basis, w, senders, receivers, nodes)
            return torch.autograd.grad(out, (feats, basis, w), probe, allow_unused=True)

        jobs[name, "forward"], jobs[name, "both"] = forward, both
    return jobs


def _rows(layers: dict, jobs: dict, times: dict) -> list[dict]:
    first = next(iter(layers))
    rows = []
    for name, layer in layers.items():
        row = {"variant": name, "class": layer.algorithm_class}
        for kind in ("forward", "both"):
            seconds = times[name, kind]
            row[f"{kind}_ms"], row[f"{kind}_p95_ms"] = median_ms(seconds.mean), p95_ms(seconds.mean)
            row[f"{kind}_times"] = median_ms(times[first, kind].mean) / median_ms(seconds.mean)
        row["first_ms"] = median_ms(times[name, "forward"].first)
        row["first_times"] = median_ms(times[first, "forward"].first) / row["first_ms"]
        if name.split("/")[0].split(":")[0] == first.split("/")[0].split(":")[0]:
            want = jobs[first, "forward"]()
            row["difference"] = float(
                (jobs[name, "forward"]() - want).abs().max() / want.abs().max()
            )
        rows.append(row)
    return rows


def _spin() -> int:
    """Floating-point operations of about a millisecond of multiply-adds in registers."""
    load_ops()
    return torch.ops.tpcalc.fma_rounds(150_000)


def _with_peak(jobs: dict) -> dict:
    one = torch.ones(4)
    add_one = scripted(_AddOne())
    return jobs | {
        ("the first again", "forward"): next(iter(jobs.values())),
        ("call", "forward"): lambda: add_one(one),
        ("peak", "forward"): _spin,
    }


class _AddOne(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 1


def useful_operations(tensor_product: torch.nn.Module) -> int:
    """Floating-point operations that one edge needs, by the coupling table of a fused variant.

    Sum over rows of channels x (2 nnz(M) + min(d1, d3)), and 2 for each coupling: M [d1, d3] is
    made from the edge basis free of channels; each of its entries that may differ from zero takes
    a multiply-add a channel; the weight is multiplied into the shorter side.
    """
    entries, count = tensor_product.op_couplings[:, 0], 2 * len(tensor_product.op_coef)
    for d1, d3, channels, *_, begin, end in tensor_product.op_paths.tolist():
        count += channels * (2 * len(entries[begin:end].unique()) + min(d1, d3))
    return count


def _add_shares(rows: list[dict], layers: dict, edges: int, peak: float) -> None:
    """GFLOP/s of the forward pass of each variant, and its percentage of the peak.

    What is useful is counted once a function, by the table of its fused variant: an algorithm
    earns nothing for arithmetic that another one avoids.
    """
    for row in rows:
        name = row["variant"]
        if name == FLOOR:
            continue
        product = layers[name].tensor_product
        fused = tensor_product(
            f"{name.split('/')[0]}/fused", product.irreps_in1, product.irreps_in2,
            product.irreps_out,
        )  # fmt: skip
        work = 1e-6 * edges * useful_operations(fused)
        row["gflops"] = work / row["forward_ms"]
        row["of_peak"] = 100 * row["gflops"] / peak
        row["first_of_peak"] = 100 * work / row["first_ms"] / peak


def _heading(result: dict) -> str:
    memory = "freed memory kept" if result["retained_memory"] else "plain allocator"
    return (
        f"lmax {result['lmax']}, {result['channels']} channels, {result['num_paths']} paths "
        f"({result['paths']}), {result['edges']} edges, {result['nodes']} nodes, "
        f"{result['dtype']}, {result['threads']} thread(s), {memory}; medians of "
        f"{result['repeat']} {TURNS}, {result['clock']}; compared with the first line"
        + (
            f"; peak of this core {result['peak_gflops']:.1f} GFLOP/s; a scripted x + 1 after a "
            f"turn of the first {result['call_ms']:.2f} ms"
            if result["peak_gflops"]
            else ""
        )
    )
