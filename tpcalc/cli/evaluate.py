"""`tpcalc evaluate POTENTIAL DATA.xyz ...`: errors per config_type."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument("potential", help="NAME.safetensors")
    parser.add_argument("data", nargs="+", help="extended XYZ, also below $TPCALC_DATA")
    parser.add_argument("--variant", help="algorithm; default: the function's reference")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch-size", type=int, default=25)
    parser.add_argument("--energy-key", default="REF_energy")
    parser.add_argument("--forces-key", default="REF_forces")
    parser.add_argument("--stress-key", default="REF_stress")


def run(args: argparse.Namespace) -> dict:
    """Print a table per file; returns {file: {config_type: errors}}."""
    from tpcalc.errors import InputError
    from tpcalc.storage import load_potential
    from tpcalc.train.config import DataConfig
    from tpcalc.train.data import find_data
    from tpcalc.train.evaluate import evaluate_file, format_table

    if args.batch_size < 1:
        raise InputError(f"--batch-size is {args.batch_size}, it must be at least 1")
    keys = DataConfig(
        train="", energy_key=args.energy_key, forces_key=args.forces_key, stress_key=args.stress_key
    )
    potential = load_potential(args.potential, variant=args.variant, dtype=args.dtype)
    potential.to(args.device)
    result = {}
    for name in args.data:
        path = find_data(name, Path.cwd())
        result[name] = evaluate_file(potential, path, keys, args.batch_size, args.device)
        if not args.json:
            print(f"{name} ({potential.variant}, {args.dtype})")
            print(format_table(result[name]))
    return result
