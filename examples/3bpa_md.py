"""The main job in ten lines: dynamics of 3BPA with every exact variant of one potential."""

from ase.io import read
from tpcalc import TPCalculator
from tpcalc.autotune import exact_variants
from tpcalc.md import MDSettings, run_md

for variant in exact_variants("cg")[0]:
    atoms = read("examples/3bpa.xyz")
    atoms.calc = TPCalculator("models/3bpa-cg/potential.safetensors", variant=variant)
    run = run_md(atoms, MDSettings(steps=500, timestep=0.5, ensemble="nvt", temperature=300))
    print(f"{variant:14s} {run['ms_per_step']:7.3f} ms/step {run['ns_per_day']:7.2f} ns/day")
