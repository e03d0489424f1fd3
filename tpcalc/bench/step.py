"""`tpcalc bench step`: whole steps of a network, energy and forces or training, in turn."""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch

from tpcalc.arguments import add_memory_arguments, retain_if_asked, whole_numbers
from tpcalc.bench.turns import Clock, check_counts, in_turns, median_ms, p95_ms
from tpcalc.errors import InputError
from tpcalc.export import scripted
from tpcalc.nn.radial_spline import spline_radials
from tpcalc.potential import (
    Potential,
    build_potential,
    energy_and_edge_gradient,
    forces_from_edges,
)
from tpcalc.tables import format_table
from tpcalc.tensor_products import default_many_body, parse_variant
from tpcalc.tensor_products.paths import natural_irreps
from tpcalc.tensor_products.symmetric.base import fold_products

COLUMNS = {
    "variant": "variant",
    "ms": "ms .2f",
    "p95_ms": "p95 .2f",
    "times": "times faster .2f",
    "operators": "operator calls",
    "difference": "force difference .1e",
}
SPLINE = "+spline"
CUTOFF = 5.0  # Å
MANY_BODY_OF = {"cg/e3nn": "cg/u_tensor"}  # what MACE itself does


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Sizes, variants and conditions of the comparison."""
    add = parser.add_argument
    add("--variants", help="comma list; the first is what the others are compared with; "
        "NAME+spline has its radial networks as splines (default cg/e3nn,cg/fused,"
        "cg/fused+spline; with --training cg/e3nn,cg/fused)")  # fmt: skip
    add("--architecture", choices=("nequip", "mace"), default="nequip",
        help="mace: correlation 3; cg/e3nn then has MACE's own contraction (nequip)")  # fmt: skip
    add("--lmax", default="2,3", help="comma list of degrees (default 2,3)")
    add("--edges", default="500,8000", help="comma list (default 500,8000)")
    add("--nodes", default="27,200", help="one for each of --edges (default 27,200)")
    add("--channels", type=int, default=64, help="per degree (default 64)")
    add("--layers", type=int, default=3, help="convolutions (default 3)")
    add("--training", action="store_true",
        help="a training step with force loss: the gradients of all weights")  # fmt: skip
    add("--mode", choices=("torchscript", "eager"), default="torchscript",
        help="of energy and forces; training is eager (default torchscript)")  # fmt: skip
    add("--threads", type=int, default=1, help="default 1")
    add("--repeat", type=int, default=11, help="timed calls each (default 11)")
    add_memory_arguments(parser)


def run(args: argparse.Namespace) -> dict:
    """Measure every size; prints a table each unless --json."""
    retain_if_asked(args)
    default = "cg/e3nn,cg/fused" if args.training else f"cg/e3nn,cg/fused,cg/fused{SPLINE}"
    variants = (args.variants or default).split(",")
    edges, nodes = whole_numbers("--edges", args.edges), whole_numbers("--nodes", args.nodes)
    if len(edges) != len(nodes):
        raise InputError(f"--edges has {len(edges)} numbers and --nodes {len(nodes)}; one each")
    results = []
    for lmax in whole_numbers("--lmax", args.lmax):
        for size in zip(nodes, edges):
            result = bench_step(
                variants, lmax, *size, args.channels, args.layers, args.training, args.mode,
                args.threads, args.repeat, args.architecture,
            )  # fmt: skip
            result["retained_memory"] = args.retain
            results.append(result)
            if not args.json:
                print(_heading(result), format_table(result["variants"], COLUMNS), "", sep="\n")
    return {"results": results}


def bench_step(
    variants: list[str], lmax: int, nodes: int = 200, edges: int = 8000, channels: int = 64,
    layers: int = 3, training: bool = False, mode: str = "torchscript", threads: int = 1,
    repeat: int = 11, architecture: str = "nequip",
) -> dict:  # fmt: skip
    """Time one step of a network with random weights on a random graph, float32.

    A step is energies, their gradient along edge vectors and the forces from it; with
    `training` also the gradients of a force and energy loss in all weights, in eager mode. The
    variants share the weights and take turns; medians and 95th percentiles of `repeat`.

    Raises:
        InputError: an unknown name, a count below one, or splines in training.
    """
    check_counts(channels=channels, layers=layers, threads=threads, repeat=repeat)
    if training and any(v.endswith(SPLINE) for v in variants):
        raise InputError("radial splines are constants and cannot be trained; leave them out")
    with Clock(threads) as clock:
        potential = random_network(variants[0], lmax, channels, layers, edges / nodes, architecture)
        graph = random_graph(nodes, edges)
        jobs = {}
        for name in variants:
            made = variant_of(potential, name)
            if training:
                jobs[name] = training_job(made.requires_grad_(True), *graph)
            else:
                jobs[name] = force_job(made, *graph, scripted_copy=mode == "torchscript")
        times = in_turns(jobs, repeat, clock.now, "step")
    return {
        "architecture": architecture, "lmax": lmax, "nodes": nodes, "edges": edges,
        "channels": channels, "layers": layers, "training": training,
        "mode": "eager" if training else mode, "threads": threads, "repeat": repeat,
        "clock": clock.name, "variants": _rows(jobs, times),
    }  # fmt: skip


def random_network(
    variant: str, lmax: int, channels: int, layers: int, neighbors: float,
    architecture: str = "nequip",
) -> Potential:  # fmt: skip
    """Seeded random weights, natural parities up to `lmax` (MACE passes 0e, 1o on), float32."""
    parse_variant(variant.removesuffix(SPLINE))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        potential = build_potential({
            "architecture": architecture, "function": variant.split("/")[0].split(":")[0],
            "species": ["H", "C", "O"], "cutoff": CUTOFF, "lmax": lmax,
            "hidden_irreps": natural_irreps(1 if architecture == "mace" else lmax, channels),
            "num_layers": layers,
            "avg_num_neighbors": neighbors,
        })  # fmt: skip
    return potential.to(torch.float32).eval().requires_grad_(False)


def random_graph(nodes: int, edges: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Species [nodes], edge_index [2, edges] sorted by receiver, vectors [edges, 3] of 1 to 5 Å."""
    generator = torch.Generator().manual_seed(0)
    species = torch.randint(3, (nodes,), generator=generator)
    receivers = torch.arange(edges) * nodes // edges
    senders = torch.randint(nodes, (edges,), generator=generator)
    directions = torch.randn(edges, 3, generator=generator)
    lengths = 1.0 + (CUTOFF - 1.0) * torch.rand(edges, 1, generator=generator)
    vectors = torch.nn.functional.normalize(directions) * lengths
    return species, torch.stack([receivers, senders]), vectors


def variant_of(potential: Potential, name: str) -> Potential:
    """The same weights with another algorithm; NAME+spline has radial splines."""
    algorithm = name.removesuffix(SPLINE)
    config = dict(potential.config)
    if config["architecture"] == "mace":
        config["many_body"] = MANY_BODY_OF.get(algorithm, default_many_body("cg"))
    made = build_potential(config, algorithm).to(potential.dtype).eval().requires_grad_(False)
    made.load_state_dict(potential.state_dict())
    return spline_radials(made) if name.endswith(SPLINE) else made


def force_job(potential, species, edge_index, vectors, scripted_copy: bool) -> Callable:
    """A call that gives (node energies, forces)."""
    fold_products(potential)
    network = scripted(potential) if scripted_copy else potential.requires_grad_(False)

    def job():
        energy, g = energy_and_edge_gradient(network, species, edge_index, vectors, len(species))
        return energy.detach(), forces_from_edges(g, edge_index, len(species))

    return job


def training_job(potential, species, edge_index, vectors) -> Callable:
    """A call that gives (loss, forces) and sets the gradients of all weights."""

    def job():
        potential.zero_grad(set_to_none=True)
        energy, g = energy_and_edge_gradient(
            potential, species, edge_index, vectors, len(species), create_graph=True
        )
        forces = forces_from_edges(g, edge_index, len(species))
        loss = forces.square().mean() + energy.mean().square()
        loss.backward()
        return loss.detach(), forces.detach()

    return job


def operator_calls(job: Callable) -> int:
    """How many torch operators one call dispatches, those inside of others too."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        job()
    return sum(event.count for event in profile.key_averages() if "::" in event.key)


def _rows(jobs: dict, times: dict) -> list[dict]:
    first = next(iter(jobs))
    _, want = jobs[first]()
    rows = []
    for name, job in jobs.items():
        _, forces = job()
        rows.append({
            "variant": name,
            "ms": median_ms(times[name].mean),
            "p95_ms": p95_ms(times[name].mean),
            "times": median_ms(times[first].mean) / median_ms(times[name].mean),
            "operators": operator_calls(job),
            "difference": float((forces - want).abs().max() / want.abs().max()),
        })  # fmt: skip
    return rows


def _heading(result: dict) -> str:
    what = "training step with force loss" if result["training"] else "energy and forces"
    memory = "freed memory kept" if result["retained_memory"] else "plain allocator"
    return (
        f"{what}, {result['architecture']}, {result['layers']} layers, {result['channels']} "
        f"channels, lmax {result['lmax']}, {result['nodes']} atoms, {result['edges']} edges, "
        f"float32, {result['mode']}, {result['threads']} thread(s), {memory}; medians of "
        f"{result['repeat']}, {result['clock']}; compared with the first line"
    )
