"""`tpcalc relax POTENTIAL STRUCTURE...`: relax one or many structures."""

from __future__ import annotations

import argparse

from tpcalc.arguments import add_potential_arguments, make_calculator


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    add_potential_arguments(parser)
    parser.add_argument("structures", nargs="+", help="files ASE reads; all frames are taken")
    parser.add_argument("--fmax", type=float, default=0.01, help="eV/Å (0.01)")
    parser.add_argument("--steps", type=int, default=500, help="most steps per structure (500)")
    parser.add_argument("--optimizer", default="lbfgs", help="lbfgs or fire")
    parser.add_argument("--cell", action="store_true", help="relax the cell too")
    parser.add_argument("-o", "--out", help="NAME.xyz; the table goes to NAME.jsonl")
    parser.add_argument("--resume", action="store_true", help="go on where NAME.jsonl ends")


def run(args: argparse.Namespace) -> dict:
    """Relax, print the table; exit code 1 if a structure failed or did not converge."""
    from tpcalc.errors import CheckFailed, InputError
    from tpcalc.relax import RelaxSettings, relax_many
    from tpcalc.structures import read_structures
    from tpcalc.tables import format_table

    if args.resume and args.out is None:
        raise InputError("--resume needs --out, where the finished structures are")
    settings = RelaxSettings(args.fmax, args.steps, args.optimizer, args.cell)
    settings.check()
    structures = [atoms for path in args.structures for atoms in read_structures(path)]
    rows, _ = relax_many(structures, make_calculator(args), settings, args.out, args.resume)
    converged = sum(row["status"] == "converged" for row in rows)
    if not args.json:
        print(format_table(rows, COLUMNS))
        print(f"{converged} of {len(rows)} converged" + (f"; {args.out}" if args.out else ""))
    if converged < len(rows):
        error = CheckFailed(f"{len(rows) - converged} of {len(rows)} structures did not converge")
        error.result = {"rows": rows, "converged": converged}
        raise error
    return {"rows": rows, "converged": converged}


COLUMNS = {
    "id": "id",
    "formula": "formula",
    "atoms": "atoms",
    "steps": "steps",
    "energy_start_eV": "E start/eV .6f",
    "energy_eV": "E end/eV .6f",
    "fmax_eV_A": "fmax/eV/Å .4f",
    "seconds": "s .2f",
    "status": "status",
}
