"""`tpcalc analyse WHAT`: measures of the tensor products, as tables."""

from __future__ import annotations

import argparse
import sys

WHAT = {
    "expressivity": "rank of the family of bilinear maps, per function and degree",
    "interactability": "which triples of irreps each function couples",
    "defect": "equivariance defect of every variant under rotation and inversion",
    "cp": "CP rank against tensor error, equivariance defect and its bound",
    "cost": "operations and bytes an edge, per variant",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = "measures:\n" + "\n".join(f"  {k:16s} {h}" for k, h in WHAT.items())
    parser.add_argument("what", metavar="WHAT", help="one of the measures below")
    parser.add_argument("--lmax", type=int, default=3, help="largest degree")
    parser.add_argument("--setting", default="MIMO", help="SISO, SIMO or MIMO (expressivity)")
    parser.add_argument("--function", help="one function only (interactability)")
    parser.add_argument("--picture", metavar="FILE", help="draw interactability")
    parser.add_argument("--mul", type=int, default=32, help="channels (cost)")


def run(args: argparse.Namespace) -> dict:
    """Print one table; returns it as {"what", "rows"}."""
    from tpcalc.errors import InputError, check_name

    check_name("measure", args.what, WHAT)
    if not 1 <= args.lmax <= 10:
        raise InputError(f"--lmax is {args.lmax}; between 1 and 10 is possible")
    rows = globals()[f"_{args.what}"](args)
    if not args.json:
        _print_table(rows)
    return {"what": args.what, "rows": rows}


def _print_table(rows: list[dict]) -> None:
    names = list(rows[0]) if rows else []
    text = [[_format(row[n]) for n in names] for row in rows]
    widths = [max(len(n), *(len(t[k]) for t in text)) for k, n in enumerate(names)]
    for line in [names, *text]:
        print("  ".join(cell.ljust(w) for cell, w in zip(line, widths)).rstrip())


def _format(value) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, (list, tuple)):
        return " ".join(map(str, value))
    return str(value)


def _progress(name: str) -> None:
    if sys.stderr.isatty():
        print(f"{name} ...".ljust(60), end="\r", file=sys.stderr, flush=True)


def _expressivity(args) -> list[dict]:
    from tpcalc.analysis.expressivity import expressivity_table

    rows = expressivity_table(args.setting, args.lmax, _progress)
    return [
        {"function": r["name"], **{f"L={n + 1}": v for n, v in enumerate(r["ranks"])}} for r in rows
    ]


def _interactability(args) -> list[dict]:
    from tpcalc.analysis.interactability import interactability, picture
    from tpcalc.tensor_products import functions

    chosen = [args.function] if args.function else functions()
    rows = []
    for function in chosen:
        _progress(function)
        found = interactability(function, args.lmax)
        missed = [f"{r['ir1']}x{r['ir2']}->{r['ir3']}" for r in found if not r["couples"]]
        rows.append({"function": function, "allowed": len(found),
                     "coupled": len(found) - len(missed),
                     "missed": missed if args.json else " ".join(missed[:6]) + " ..." * (
                         len(missed) > 6)})  # fmt: skip
    if args.picture:
        picture(args.picture, args.lmax)
    return rows


def _defect(args) -> list[dict]:
    from tpcalc.analysis.equivariance import convolution_defect
    from tpcalc.tensor_products import VARIANTS, convolution, variant_class
    from tpcalc.tensor_products.paths import natural_irreps

    irreps, edge = natural_irreps(args.lmax, 2), natural_irreps(args.lmax)
    rows = []
    for variant in VARIANTS:
        _progress(variant)
        if not variant_class(variant).available():
            continue
        found = convolution_defect(convolution(variant, irreps, edge), trials=5)
        rows.append({"variant": variant, "rotation": found["rotation"]["max"],
                     "inversion": found["inversion"]["max"]})  # fmt: skip
    return rows


def _cp(args) -> list[dict]:
    from tpcalc.analysis.cp_sweep import rank_sweep
    from tpcalc.tensor_products.shared.cp_factors import KINDS

    rows = []
    for lmax in range(1, min(args.lmax, 3) + 1):
        for kind in KINDS:
            _progress(f"degree {lmax}, {kind} paths")
            rows += rank_sweep(lmax, kind)
    return rows


def _cost(args) -> list[dict]:
    from tpcalc.analysis.cost import convolution_cost
    from tpcalc.errors import InputError
    from tpcalc.tensor_products import VARIANTS, convolution, variant_class
    from tpcalc.tensor_products.paths import natural_irreps

    irreps, edge = natural_irreps(args.lmax, args.mul), natural_irreps(args.lmax)
    rows = []
    for variant in VARIANTS:
        _progress(variant)
        if not variant_class(variant).available():
            continue
        try:
            conv = convolution(variant, irreps, edge)
        except InputError:  # shared/cp beyond its stored factors
            continue
        cost = convolution_cost(conv, 10, 10)
        rows.append({"variant": variant, "flops/edge": cost["flops"], "bytes/edge": cost["bytes"],
                     "basis flops/edge": cost["basis_flops"],
                     "hidden": " ".join(cost["unknown"])})  # fmt: skip
    return rows
