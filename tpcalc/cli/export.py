"""`tpcalc export NAME.safetensors -o NAME.pt`: the file that LAMMPS loads."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument("potential", help="NAME.safetensors")
    parser.add_argument("-o", "--out", required=True, help="NAME.pt")
    parser.add_argument("--variant", help="algorithm, see `tpcalc variants`")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument(
        "--radial",
        choices=("network", "spline"),
        default="network",
        help="spline: radial networks as splines inside the fused kernels, faster",
    )
    parser.add_argument(
        "--elements", nargs="+", help="keep these elements alone (all of the potential's)"
    )


def run(args: argparse.Namespace) -> dict:
    """Export and say what was written."""
    from tpcalc.export import export_potential
    from tpcalc.storage import load_potential

    potential = load_potential(args.potential)
    manifest = export_potential(
        potential,
        args.out,
        dtype=args.dtype,
        variant=args.variant,
        radial=args.radial,
        elements=args.elements,
    )
    if not args.json:
        print(
            f"{args.out}: {manifest['variant']} ({manifest['algorithm_class']}), "
            f"{manifest['dtype']}, cutoff {manifest['cutoff']} Å, {' '.join(manifest['species'])}"
        )
        if manifest["radial"] == "spline":
            print(
                f"radial splines, error {manifest['spline_error']:.1e} of the path weights, "
                f"{manifest['spline_slope_error']:.1e} of their slopes"
            )
        print(f"LAMMPS: pair_coeff * * {args.out} {' '.join(manifest['species'])}")
    return {"path": str(args.out), **manifest}
