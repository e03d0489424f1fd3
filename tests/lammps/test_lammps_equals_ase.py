"""LAMMPS gives what the ASE calculator gives, on one rank and on several."""

import numpy as np
import pytest
from decks import SYSTEMS, by_ase, far_corner, single_point
from tpcalc import TPCalculator
from tpcalc.export import export_potential
from tpcalc.tensor_products import VARIANTS, variant_class

from small import MACE_DENSITY, SPECIES, random_mace, random_potential

TOLERANCE = {"float64": 1e-10, "float32": 5e-6}
EXACT_CG = [v for v in VARIANTS if v.startswith("cg/") and variant_class(v).exact]


def check(got, want, tolerance, shifts):
    """Relative to the largest force, energies relative to what the model adds to the atoms."""
    force = np.abs(want["forces"]).max()
    assert np.abs(got["forces"] - want["forces"]).max() < tolerance * force
    learned = np.abs(want["energies"] - shifts).max()
    assert np.abs(got["energies"] - want["energies"]).max() < tolerance * max(learned, 1.0) + 1e-11
    assert abs(got["energy"] - want["energy"]) < tolerance * len(shifts) * max(learned, 1.0)
    scale = np.abs(got["virial"]).max()
    if want["virial"] is not None:
        assert np.abs(got["virial"] - want["virial"]).max() < tolerance * max(scale, 1.0)
    # per-atom virials sum to the virial (LAMMPS: stress/atom = -virial in pressure * volume)
    assert np.abs(got["stress_atom"] + got["virial"]).max() < 1e-9 * max(scale, 1.0)
    centroid = got["centroid"]  # xx yy zz xy xz yz yx zx zy: the mean is the symmetric part
    centroid = np.concatenate([centroid[:3], 0.5 * (centroid[3:6] + centroid[6:])])
    assert np.abs(centroid + got["virial"]).max() < 1e-9 * max(scale, 1.0)


@pytest.mark.parametrize(("dtype", "ranks"), [("float64", 1), ("float64", 2), ("float32", 2)])
@pytest.mark.parametrize("system", SYSTEMS)
def test_equals_ase(system, dtype, ranks, exported, potential, tmp_path):
    atoms = SYSTEMS[system]()
    want = by_ase(atoms, potential)
    got = single_point(atoms, exported(dtype), tmp_path, ranks=ranks)
    shifts = np.array([potential.shifts[potential.species.index(s)] for s in atoms.symbols])
    check(got, want, TOLERANCE[dtype], shifts)


@pytest.mark.parametrize("variant", EXACT_CG)
def test_variants_on_two_ranks_one_of_them_with_one_atom(variant, exported, potential, tmp_path):
    """Also the C++ kernels: the plugin carries them."""
    atoms = far_corner()
    want = by_ase(atoms, potential)
    got = single_point(atoms, exported("float64", variant), tmp_path, 2, "processors 2 1 1\n")
    force = np.abs(want["forces"]).max()
    assert np.abs(got["forces"] - want["forces"]).max() < 1e-10 * force
    assert f"variant              {variant} (" in got["run"].log


@pytest.mark.parametrize("interaction", ["cg", "gaunt:2"])
def test_products_between_the_layers_on_two_ranks(interaction, tmp_path):
    """Node-wise, so local atoms only; the exchange of ghosts comes after them."""
    potential = random_potential(num_layers=3, scale=3.0, interaction=interaction)
    file = tmp_path / "a.pt"
    export_potential(potential, file, dtype="float64", variant="cg/grouped")
    atoms = SYSTEMS["crystal"]()
    want = by_ase(atoms, potential)
    got = single_point(atoms, file, tmp_path, ranks=2)
    shifts = np.array([potential.shifts[potential.species.index(s)] for s in atoms.symbols])
    check(got, want, TOLERANCE["float64"], shifts)


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("system", ["crystal", "water"])
def test_mace_with_radial_splines_of_the_elements_exported(system, ranks, tmp_path):
    """Against ASE, whose calculator makes its splines by itself."""
    potential, file = random_mace(**MACE_DENSITY, num_layers=3), tmp_path / "a.pt"
    export_potential(potential, file, "float64", radial="spline", elements=SPECIES)
    atoms = SYSTEMS[system]()
    ase = atoms.copy()
    ase.calc = TPCalculator(potential, dtype="float64", radial="spline")
    got = single_point(atoms, file, tmp_path, ranks=ranks)
    force = np.abs(ase.get_forces()).max()
    # water has no carbon: other splines, of fewer pairs and perhaps fewer intervals
    tolerance = 1e-10 if system == "crystal" else 1e-4
    assert np.abs(got["forces"] - ase.get_forces()).max() < tolerance * force
    assert abs(got["energy"] - ase.get_potential_energy()) < tolerance * len(atoms)


@pytest.mark.parametrize(
    ("units", "energy", "length"),
    [
        ("real", 23.060549, 1.0),  # LAMMPS' own factor
        ("electron", 1 / 27.211386245988, 1 / 0.529177210903),
        ("si", 1.602176634e-19, 1e-10),
    ],
)
def test_units(units, energy, length, exported, potential, tmp_path):
    atoms = SYSTEMS["crystal"]()
    want = by_ase(atoms, potential)
    scaled = atoms.copy()
    scaled.set_cell(np.array(atoms.cell) * length, scale_atoms=True)
    skin = f"neighbor {length} bin\n"  # LAMMPS' default in si is a millimetre
    got = single_point(scaled, exported(), tmp_path, units=units, after=skin)
    assert abs(got["energy"] / energy - want["energy"]) < 1e-6 * abs(want["energy"])
    forces = got["forces"] * length / energy
    assert np.abs(forces - want["forces"]).max() < 1e-6 * np.abs(want["forces"]).max()


def test_block_of_the_start_and_of_the_end(exported, tmp_path):
    import hashlib

    run = single_point(SYSTEMS["water"](), exported("float32"), tmp_path, ranks=2)["run"]
    sha = hashlib.sha256(exported("float32").read_bytes()).hexdigest()
    for text in (
        f"sha256               {sha}", "variant              cg/grouped (GroupedConvolution)",
        "dtype, device        float32, cpu", "ranks x threads      2 x 1",
        "ghost cutoff         6 ", "largest neighbours   ",
    ):  # fmt: skip
        assert text in run.log
    (times,) = run.times()
    assert set(times) == {
        "edges from neighbours", "packing and scatter", "model forward", "model backward",
        "communication", "total",
    }  # fmt: skip
    assert times["total"] > times["model forward"] > 0.0
