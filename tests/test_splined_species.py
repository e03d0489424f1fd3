"""Elements of a potential chosen; MACE's radial splines by pairs of them, in every face."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from tests.small import (
    MACE_DENSITY,
    SPECIES,
    crystal,
    ethanol,
    force_by_differences,
    random_mace,
    random_potential,
)
from tpcalc import TPCalculator
from tpcalc.errors import InputError
from tpcalc.export import export_potential, load_exported
from tpcalc.nn import mace_splines
from tpcalc.nn.radial_spline import spline_radials
from tpcalc.storage import load_potential, save_potential
from tpcalc.verify import verify

RESIDUAL = {"first_block": "residual", "radial_transform": "agnesi", "num_layers": 3}


def energy_and_forces(potential, atoms, **options):
    atoms = atoms.copy()
    atoms.calc = TPCalculator(potential, dtype="float64", **options)
    return atoms.get_potential_energy(), atoms.get_forces()


@pytest.mark.parametrize(
    "potential",
    [
        lambda: random_mace(**MACE_DENSITY),
        lambda: random_mace(many_body="cg/polynomial"),
        lambda: random_potential("cg", species=["H", "C", "N", "O"], pair_repulsion="zbl",
                                 scale={"H": 1.0, "C": 2.0, "N": 3.0, "O": 4.0}),
    ],
)  # fmt: skip
def test_kept_elements_keep_their_numbers(potential, tmp_path):
    full = potential()
    kept = full.of_species(["O", "C", "H"])
    assert kept.species == [s for s in full.species if s in SPECIES]
    atoms = crystal()
    energy, forces = energy_and_forces(full, atoms)
    for stored in (kept, load_potential(save_potential(kept, tmp_path / "kept.safetensors"))):
        own_energy, own_forces = energy_and_forces(stored, atoms)
        assert own_energy == pytest.approx(energy, abs=1e-10)
        assert np.abs(own_forces - forces).max() < 1e-10
    assert len(full.species) > len(kept.species)  # the given one is left as it was
    with pytest.raises(InputError, match="knows|unknown"):
        energy_and_forces(kept, Atoms("N"))


@pytest.mark.parametrize(
    ("symbols", "text"), [([], "no element named"), (["Xx"], "Xx"), (["H", "Xe"], "Xe")]
)
def test_wrong_elements_are_named(symbols, text):
    with pytest.raises(InputError, match=text):
        random_mace().of_species(symbols)


@pytest.mark.parametrize("kind", [{}, MACE_DENSITY, RESIDUAL])
@pytest.mark.parametrize("mode", ["eager", "torchscript"])
def test_splined_mace_is_the_network_and_its_own_derivative(kind, mode):
    potential = random_mace(**kind)
    atoms = crystal()
    energy, forces = energy_and_forces(potential, atoms)
    atoms.calc = TPCalculator(potential, dtype="float64", radial="spline", mode=mode)
    assert atoms.get_potential_energy() == pytest.approx(energy, abs=1e-4)
    own = atoms.get_forces()
    assert 0 < np.abs(own - forces).max() < 1e-4 * np.abs(forces).max()
    assert own[1, 0] == pytest.approx(force_by_differences(atoms), abs=1e-6)
    run = atoms.calc.potential
    assert run.species == ["H", "C", "O"]
    assert 0 < run.spline_error < 1e-6
    assert len(run.model.layers[0].conv.table) == 9  # linear maps in them: ordered pairs
    assert len(run.model.layers[1].conv.table) == (6 if kind else 1)


def test_first_convolution_of_a_residual_block_keeps_its_self_connection():
    splined = spline_radials(random_mace(**RESIDUAL).of_species(["C"]))
    first = splined.model.layers[0]
    assert hasattr(first.self_connection, "weight")
    assert not hasattr(first.linear_down, "weight")


def test_elements_that_come_later_get_their_splines():
    potential = random_mace(**MACE_DENSITY)
    calculator = TPCalculator(potential, dtype="float64", radial="spline")
    for atoms in (molecule("H2O"), Atoms("O"), ethanol(), molecule("NH3")):
        atoms.rattle(0.05, seed=1)
        energy, forces = energy_and_forces(potential, atoms)
        atoms.calc = calculator
        assert atoms.get_potential_energy() == pytest.approx(energy, abs=1e-4)
        assert np.abs(atoms.get_forces() - forces).max() < 1e-4 * max(1, np.abs(forces).max())
    assert calculator.potential.species == ["H", "C", "N", "O"]
    results = TPCalculator(potential, dtype="float64", radial="spline").evaluate(
        [molecule("H2O"), molecule("NH3")]
    )
    for atoms, result in zip((molecule("H2O"), molecule("NH3")), results):
        assert result["energy"] == pytest.approx(energy_and_forces(potential, atoms)[0], abs=1e-4)
    with pytest.raises(InputError, match="'Xe' is unknown to this potential; it knows Li, H"):
        calculator.get_potential_energy(Atoms("Xe"))


def test_calculator_refuses_before_and_after_its_splines():
    calculator = TPCalculator(random_mace(), radial="spline")
    with pytest.raises(InputError, match="made for 'cg/fused'"):
        calculator.swap("cg/grouped")
    with pytest.raises(InputError, match="swap to cg/fused first"):
        TPCalculator(random_mace(), "cg/grouped", radial="spline")
    splined = spline_radials(random_mace().of_species(["H", "C"]))
    with pytest.raises(InputError, match="before making radial splines"):
        splined.of_species(["H"])


def test_too_many_pairs_are_refused_with_what_to_do(monkeypatch):
    monkeypatch.setattr(mace_splines, "MOST_BYTES", 10**6)
    with pytest.raises(InputError, match="100 pairs of 10 species.*--elements"):
        spline_radials(random_mace())
    spline_radials(random_mace().of_species(["H", "O"]))


def test_export_of_some_elements(tmp_path):
    potential = random_mace(**MACE_DENSITY)
    file = tmp_path / "few.pt"
    manifest = export_potential(
        potential, file, "float64", radial="spline", elements=["H", "C", "O"]
    )
    assert manifest["species"] == ["H", "C", "O"]
    assert 0 < manifest["spline_error"] < 1e-6
    module, _ = load_exported(file)
    atoms = Atoms("CO", [[0, 0, 0], [0, 0.3, 1.2]])
    vectors = torch.tensor([[0, 0.3, 1.2], [0, -0.3, -1.2]], dtype=torch.float64)
    index = torch.tensor([[0, 1], [1, 0]])
    energy = module(torch.tensor([1, 2]), index, vectors, 2).sum().item()
    assert energy == pytest.approx(energy_and_forces(potential, atoms)[0], abs=1e-5)
    with pytest.raises(InputError, match="Xe"):
        export_potential(potential, file, elements=["Xe"])


def test_certificate_of_splines():
    potential = random_mace(**MACE_DENSITY, species=["H", "O"], shifts={})
    certificate = verify(potential, radial="spline")
    assert certificate["passed"]
    assert {row["class"] for row in certificate["rows"]} == {"CgFused with radial splines"}
    with pytest.raises(InputError, match="network alone"):
        verify("potential.safetensors", store=True, radial="spline")
