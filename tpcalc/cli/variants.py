"""`tpcalc variants`: what can be swapped, and what each variant promises."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument("function", nargs="?", help="only this function (cg, shared, gaunt, ...)")


def run(args: argparse.Namespace) -> dict:
    """Print the algorithms a function has in each place, then one row per variant."""
    from tpcalc.tables import format_table
    from tpcalc.variants import describe_places, describe_variants

    rows, places = describe_variants(args.function), describe_places(args.function)
    if not args.json:
        heads = {key: key for key in places[0]}
        text = [{k: v if isinstance(v, str) else " ".join(v) or "-" for k, v in row.items()}
                for row in places]  # fmt: skip
        print(format_table(text, heads), "", sep="\n")
        print(format_table(rows, COLUMNS))
    return {"places": places, "variants": rows}


COLUMNS = {
    "variant": "variant",
    "places": "places",
    "exact": "exact",
    "parity": "parity",
    "devices": "devices",
    "status": "here",
    "summary": "what it is",
}
