"""`tpcalc variants`: what can be swapped, and what each variant promises."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument("function", nargs="?", help="only this function (cg, shared, gaunt, ...)")


def run(args: argparse.Namespace) -> dict:
    """Print one row per variant."""
    from tpcalc.tables import format_table
    from tpcalc.variants import describe_variants

    rows = describe_variants(args.function)
    if not args.json:
        print(format_table(rows, COLUMNS))
    return {"variants": rows}


COLUMNS = {
    "variant": "variant",
    "exact": "exact",
    "parity": "parity",
    "devices": "devices",
    "status": "here",
    "summary": "what it is",
}
