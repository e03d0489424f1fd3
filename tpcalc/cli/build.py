"""`tpcalc build`: compile the kernels and the LAMMPS pair style."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--what, --cuda, --force."""
    parser.add_argument(
        "--what", choices=("all", "kernels", "lammps"), default="all",
        help="kernels: the fused tensor products; lammps: pair_style tpcalc (with the kernels)",
    )  # fmt: skip
    parser.add_argument("--cuda", action="store_true",
                        help="also the CUDA kernels, conv and poly (needs nvcc)")  # fmt: skip
    parser.add_argument("--force", action="store_true", help="compile even if the cache has it")


def run(args: argparse.Namespace) -> dict:
    """Compile what is missing and say where it lies."""
    from tpcalc.lammps.build import build_all

    result = build_all(what=args.what, force=args.force, cuda=args.cuda)
    if not args.json:
        for name, entry in result.items():
            state = f"compiled in {entry['seconds']:.0f} s" if entry["compiled"] else "ready"
            print(f"{name:8s} {state}: {entry['path']}")
    return result
