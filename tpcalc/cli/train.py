"""`tpcalc train CONFIG.yaml`: one YAML file = the arguments."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument("config", help="YAML file; keys: tpcalc/train/config.py")
    parser.add_argument("--resume", action="store_true", help="continue from the checkpoint")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides",
        help="replace one entry of the file, e.g. --set optimizer.lr=0.005",
    )  # fmt: skip


def run(args: argparse.Namespace) -> dict:
    """Train; prints the table of errors. Stopped by a signal, it leaves with 128 + its number."""
    from tpcalc.train.config import load_config
    from tpcalc.train.evaluate import format_table
    from tpcalc.train.run import train

    config = load_config(args.config, args.overrides)
    result = train(config, Path(args.config).parent, resume=args.resume)
    if result["status"] == "stopped":
        import sys

        print(
            f"tpcalc train: stopped by signal {result['signal']} after step {result['steps']}; "
            f"saved {result['checkpoint']}; add --resume to continue",
            file=sys.stderr,
        )
        raise SystemExit(128 + result["signal"])
    if not args.json:
        rows = {}
        for name, table in result["accuracy"].items():
            several = len(table) > 1
            rows |= {f"{name} {kind}" if several else name: row for kind, row in table.items()}
        print(format_table(rows))
        print(f"{result['output']}: weights of epoch {result['best_epoch']} of {result['epochs']}")
    return result
