"""Run decks one after another inside this process, alone or under mpirun.

Each rank writes FOLDER/said.RANK.json: the error sentence (or "") per deck.

usage: python in_process.py FOLDER      with the JSON list of decks in FOLDER/decks.json
"""

import json
import os
import sys
from pathlib import Path

from tpcalc.lammps.run import open_lammps


def main() -> None:
    os.chdir(sys.argv[1])
    said = []
    for deck in json.loads(Path("decks.json").read_text()):
        lammps = open_lammps("-screen", "none", "-log", "none")
        try:
            lammps.commands_string(deck)
            said.append("")
        except Exception as error:
            said.append(str(error))
        lammps.close()
    Path(f"said.{os.environ.get('PMI_RANK', '0')}.json").write_text(json.dumps(said))


if __name__ == "__main__":
    main()
