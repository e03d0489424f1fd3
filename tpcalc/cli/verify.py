"""`tpcalc verify POTENTIAL`: are the variants the same potential?"""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument("potential", help="NAME.safetensors")
    parser.add_argument("--variants", nargs="+", help="names; default: every exact one")
    parser.add_argument("--dtypes", nargs="+", default=["float64", "float32"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--radial", choices=("network", "spline"), default="network",
        help="spline: of the fused variants with radial splines, against the network",
    )  # fmt: skip
    parser.add_argument("--store", action="store_true", help="keep the certificate in the file")


def run(args: argparse.Namespace) -> dict:
    """Check, print the table; exit code 1 if a variant is outside of the limits."""
    from tpcalc.errors import CheckFailed
    from tpcalc.tables import format_table
    from tpcalc.verify import verify

    try:
        certificate = verify(
            args.potential, args.variants, tuple(args.dtypes), args.device, args.store, args.radial
        )
    except CheckFailed as error:
        if not args.json and hasattr(error, "result"):
            print(format_table(error.result["rows"], _columns(error.result["rows"])))
        raise
    if not args.json:
        print(format_table(certificate["rows"], _columns(certificate["rows"])))
        if args.radial == "spline":
            print(f"elements: {' '.join(certificate['elements'])}")
        print("all within the limits" + (f"; stored in {args.potential}" if args.store else ""))
    return certificate


def _columns(rows: list[dict]) -> dict[str, str]:
    """Those of the original stand before the verdict, for an imported potential alone."""
    columns = {key: heading for key, heading in COLUMNS.items() if key != "worst"}
    if any("original_energy" in row for row in rows):
        columns |= ORIGINAL
    return columns | {"worst": COLUMNS["worst"]}


ORIGINAL = {
    "original_energy": "ΔE original .0e",
    "original_forces": "ΔF original .0e",
    "original_stress": "Δstress original .0e",
}
COLUMNS = {
    "variant": "variant",
    "class": "class",
    "dtype": "dtype",
    "energy": "ΔE/(eV/atom) .0e",
    "forces": "ΔF/(eV/Å) .0e",
    "stress": "Δstress/(eV/Å³) .0e",
    "finite_difference": "F against dE .0e",
    "worst": "nearest to its limit",
}
