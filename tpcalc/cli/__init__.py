"""The command line: one verb a file, each a thin shell around a function of the library."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from keyword import iskeyword

from tpcalc.errors import TpcalcError, did_you_mean

# verb -> one line of help; tpcalc.cli.<verb> has add_arguments(parser) and run(args) -> dict | None
VERBS = {
    "variants": "list the tensor-product variants and what each can do",
    "train": "train a potential from extended XYZ",
    "evaluate": "errors of a potential on labelled structures",
    "import": "turn a Nequix, MACE, NequIP or SevenNet model into NAME.safetensors",
    "export": "write a TorchScript file for LAMMPS",
    "md": "run molecular dynamics",
    "relax": "relax one or many structures",
    "verify": "check the exact variants of a potential against each other and store it",
    "bench": "time molecular dynamics and relaxations per variant",
    "analyse": "expressivity, interactability, defects, CP ranks and cost of the products",
    "convert": "weights of one function as weights of another, with the measured error",
    "build": "compile the fused kernels and the LAMMPS pair style",
    "doctor": "what is installed, what does not fit, and the command that mends it",
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tpcalc",
        description="Equivariant potentials with swappable tensor products: run, prove, time.",
        epilog="verbs:\n" + "\n".join(f"  {v:10s} {h}" for v, h in VERBS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("verb", metavar="VERB", help="what to do; `tpcalc VERB --help` says more")
    parser.add_argument("rest", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one verb. Returns 0 ok, 1 a check failed, 2 bad input, 3 environment."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help"):
        _parser().print_help()
        return 0 if argv else 2
    verb = argv[0]
    if verb not in VERBS:
        print(f"tpcalc: unknown verb {verb!r}{did_you_mean(verb, VERBS)}", file=sys.stderr)
        return 2
    module = importlib.import_module(f"tpcalc.cli.{verb}{'_' * iskeyword(verb)}")
    parser = argparse.ArgumentParser(prog=f"tpcalc {verb}", description=VERBS[verb])
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    module.add_arguments(parser)
    args = parser.parse_args(argv[1:])
    try:
        result = module.run(args)
    except TpcalcError as error:
        result = getattr(error, "result", None)  # a failed check still has its numbers
        if args.json and result is not None:
            print(json.dumps(result))
        print(f"tpcalc {verb}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(f"tpcalc {verb}: interrupted", file=sys.stderr)
        return 130
    if args.json and result is not None:
        print(json.dumps(result))
    return 0
