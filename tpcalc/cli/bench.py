"""`tpcalc bench KIND`: timings, each kind in tpcalc/bench/KIND.py."""

from __future__ import annotations

import argparse
import importlib

from tpcalc.errors import check_name

# kind -> one line of help; tpcalc.bench.<kind> has add_arguments(parser) and run(args) -> dict
KINDS = {
    "demo": "the shipped potentials on 3BPA: dynamics and relaxation with every variant",
    "md": "molecular dynamics per variant",
    "relax": "relaxations per variant",
    "layer": "one tensor product or convolution per variant",
    "step": "a whole step of a network: energy and forces, or training",
    "microbenchmark": "the published microbenchmarks: SISO, SIMO, MIMO, interaction, many-body",
    "lammps": "the exported potential in LAMMPS, per variant and number of ranks",
    "import": "an imported potential against the original in its own package",
    "profile": "where the time of one step goes",
    "memory": "the most memory one step takes, against the number of atoms",
}


MODULES = {"import": "import_"}  # a keyword is no name of a module


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The kind, and all that follows it."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = "kinds:\n" + "\n".join(f"  {k:8s} {h}" for k, h in KINDS.items())
    parser.add_argument("kind", metavar="KIND", help="what to time; `tpcalc bench KIND --help`")
    parser.add_argument("rest", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> dict | None:
    """Hand over to the module of the kind."""
    kind = check_name("kind of benchmark", args.kind, KINDS)
    module = importlib.import_module(f"tpcalc.bench.{MODULES.get(kind, kind)}")
    parser = argparse.ArgumentParser(prog=f"tpcalc bench {kind}", description=KINDS[kind])
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    module.add_arguments(parser)
    inner = parser.parse_args(args.rest)
    inner.json = args.json = inner.json or args.json
    if hasattr(inner, "allocator"):
        from tpcalc.arguments import prepare_process

        prepare_process(inner)
    return module.run(inner)
