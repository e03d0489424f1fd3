"""`tpcalc import FILE --from nequix -o NAME.safetensors`: bring your own model."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument("file", nargs="?", help="the foreign model")
    parser.add_argument("--from", dest="source", help="nequix, mace, sevennet or nequip")
    parser.add_argument("-o", "--output", help="NAME.safetensors")
    parser.add_argument("--head", help="head of a multi-head MACE model")
    parser.add_argument("--python", help="interpreter of an environment with the foreign package")
    parser.add_argument(
        "--make-env", metavar="NAME", help="make such an environment (mace, sevennet, nequip)"
    )
    parser.add_argument(
        "--trust", action="store_true", help="run the original: executes code from FILE"
    )


def run(args: argparse.Namespace) -> dict:
    """Convert, compare, write; print what was done and the licence."""
    from tpcalc.errors import InputError
    from tpcalc.importers.foreign import make_environment
    from tpcalc.importers.run import import_model

    result: dict = {}
    if args.make_env:
        result["python"] = str(make_environment(args.make_env))
        if not args.json:
            print(f"{args.make_env}: {result['python']}")
        if args.file is None:
            return result
        args.python = args.python or result["python"]
    for name, value in (("FILE", args.file), ("--from", args.source), ("-o", args.output)):
        if not value:
            raise InputError(
                f"{name} is missing: tpcalc import FILE --from KIND -o NAME.safetensors"
            )
    result |= import_model(args.file, args.source, args.output, args.head, args.python, args.trust)
    if not args.json:
        print(f"{result['output']}: {result['parameters']} parameters, "
              f"{len(result['species'])} elements")  # fmt: skip
        print(f"licence of the weights: {result['licence']}")
        print(f"cite: {result['citation']}")
        if result["difference"] is None:
            print("the original was not run; probe results in the manifest are ours")
        else:
            d = result["difference"]
            print(f"against the original: {d['energy']:.1e} eV/atom, "
                  f"{d['forces']:.1e} eV/Å, {d['stress']:.1e} eV/Å³")  # fmt: skip
    return result
