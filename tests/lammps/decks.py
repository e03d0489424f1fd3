"""Decks as text, and the systems they run on."""

import numpy as np
from ase import Atoms
from ase.build import molecule
from ase.io import write
from tpcalc import TPCalculator
from tpcalc.lammps.run import read_dump, run_deck

from small import SPECIES, crystal, ethanol

BAR = 1.6021765e6  # bar per eV/Å^3, LAMMPS' own constant in units metal
PRESSURES = ["pxx", "pyy", "pzz", "pxy", "pxz", "pyz"]
VOIGT = [(0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)]


def molecule_in_vacuum() -> Atoms:
    atoms = ethanol()
    atoms.cell = [20.0, 18.0, 16.0]
    atoms.positions += 8.0
    return atoms


def water_box(n=2, seed=3) -> Atoms:
    """2 n^3 molecules at the density of water, randomly turned, in a cubic box."""
    rng = np.random.default_rng(seed)
    side = 3.91
    box = Atoms(cell=[2 * n * side, n * side, n * side], pbc=True)
    for cell in np.ndindex(2 * n, n, n):
        water = molecule("H2O")
        water.rotate(rng.uniform(0, 360), rng.normal(size=3))
        water.positions += np.array(cell) * side + 1.5 + rng.normal(scale=0.1, size=3)
        box += water
    return box


def slab() -> Atoms:
    """Water, periodic in the plane, vacuum on both sides."""
    atoms = water_box()
    atoms.cell[2, 2] += 15.0
    atoms.positions[:, 2] += 6.0
    atoms.pbc = [True, True, False]
    return atoms


def far_corner() -> Atoms:
    """Five atoms in 40 Å: with `processors 4 1 1` ranks hold 4, 1, 0 and 0 of them."""
    positions = [[8.0, 5, 5], [9.0, 5, 5], [8.6, 6, 5], [8.3, 5.2, 6.2], [10.6, 5.3, 5.4]]
    return Atoms("CHOHC", positions, cell=[40, 12, 12], pbc=False)


SYSTEMS = {
    "molecule": molecule_in_vacuum,
    "water": water_box,
    "crystal": crystal,
    "slab": slab,
}


def head(atoms, path, folder, units="metal", style="pair_style tpcalc", elements=SPECIES):
    """The deck up to pair_coeff; writes the data file into `folder`."""
    write(folder / "atoms.data", atoms, format="lammps-data", specorder=SPECIES, masses=True,
          velocities=atoms.has("momenta"))  # fmt: skip
    boundary = " ".join("p" if periodic else "f" for periodic in atoms.pbc)
    return (
        f"units {units}\nboundary {boundary}\natom_style atomic\natom_modify map yes\n"
        f"read_data atoms.data\n{style}\npair_coeff * * {path} {' '.join(elements)}\n"
    )


SINGLE_POINT = """
compute pea all pe/atom
compute str all stress/atom NULL virial
compute cen all centroid/stress/atom NULL virial
compute strsum all reduce sum c_str[1] c_str[2] c_str[3] c_str[4] c_str[5] c_str[6]
compute censum all reduce sum c_cen[1] c_cen[2] c_cen[3] c_cen[4] c_cen[5] c_cen[6] &
    c_cen[7] c_cen[8] c_cen[9]
thermo_style custom step pe pxx pyy pzz pxy pxz pyz c_strsum[*] c_censum[*] vol
thermo_modify format float %.16g
dump all all custom 1 single.dump id fx fy fz c_pea
dump_modify all format float %.16g
run 0
"""


def single_point(
    atoms, path, folder, ranks=1, before="", after="", units="metal", **options
) -> dict:
    """Energy, forces [n, 3], virial [6], energies [n], sums of per-atom virials; LAMMPS units."""
    text = before + head(atoms, path, folder, units=units) + after + SINGLE_POINT
    run = run_deck(text, ranks=ranks, folder=folder, **options)
    frame = read_dump(folder / "single.dump")[0]
    thermo = {name: values[0] for name, values in run.thermo[0].items()}
    volume = thermo["Volume"]
    return {
        "energy": thermo["PotEng"],
        "forces": np.array([frame["fx"], frame["fy"], frame["fz"]]).T,
        "energies": np.array(frame["c_pea"]),
        "virial": np.array([thermo[p.capitalize()] for p in PRESSURES]) * volume / BAR,
        "stress_atom": np.array([thermo[f"c_strsum[{i}]"] for i in range(1, 7)]) / BAR,
        "centroid": np.array([thermo[f"c_censum[{i}]"] for i in range(1, 10)]) / BAR,
        "run": run,
    }


def by_ase(atoms, potential, dtype="float64") -> dict:
    """The same from the ASE calculator; virial = -stress * volume."""
    atoms = atoms.copy()
    atoms.calc = TPCalculator(potential, "cg/reference", dtype=dtype)
    virial = None
    if atoms.pbc.all():
        stress = atoms.get_stress(voigt=False)
        virial = -np.array([stress[i] for i in VOIGT]) * atoms.get_volume()
    return {
        "energy": atoms.get_potential_energy(),
        "forces": atoms.get_forces(),
        "energies": atoms.get_potential_energies(),
        "virial": virial,
    }
