"""`tpcalc doctor`: versions, and the command that mends what does not fit."""

from __future__ import annotations

import argparse

from tpcalc.errors import MissingDependency


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None."""


def run(args: argparse.Namespace) -> dict:
    """Print the findings; exit code 3 where one is bad."""
    from tpcalc.lammps.doctor import as_text, report

    try:
        result = report()
    except MissingDependency as error:
        if not args.json:
            print(as_text(error.result["findings"]))
        raise
    if not args.json:
        print(as_text(result["findings"]))
    return result
