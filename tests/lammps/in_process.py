"""Run decks one after another inside this process; print JSON: error sentence (or "") per deck.

usage: python in_process.py FOLDER < JSON list of decks
"""

import json
import os
import sys

from tpcalc.lammps.run import open_lammps


def main() -> None:
    os.chdir(sys.argv[1])
    said = []
    for deck in json.load(sys.stdin):
        lammps = open_lammps("-screen", "none", "-log", "none")
        try:
            lammps.commands_string(deck)
            said.append("")
        except Exception as error:
            said.append(str(error))
        lammps.close()
    print("RESULT " + json.dumps(said))


if __name__ == "__main__":
    main()
