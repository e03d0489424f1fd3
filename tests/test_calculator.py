"""The ASE face: finite differences, ASE's own conventions, and every sentence it can say."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from ase.md.verlet import VelocityVerlet
from ase.stress import voigt_6_to_full_3x3_stress
from ase.units import fs
from scipy.spatial.transform import Rotation
from tests.small import crystal, ethanol, random_potential
from tpcalc import TPCalculator, autotune
from tpcalc.errors import CheckFailed, InputError
from tpcalc.storage import save_potential

POTENTIALS = {f: random_potential(f) for f in ("cg", "shared", "gaunt")}
FUNCTIONS = list(POTENTIALS)


def calculator(function="cg", **arguments):
    return TPCalculator(POTENTIALS[function], **{"dtype": "float64", **arguments})


def with_calc(atoms, **arguments):
    atoms.calc = calculator(**arguments)
    return atoms


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("make", [ethanol, crystal])
def test_forces_by_finite_differences(function, make):
    atoms = with_calc(make(), function=function)
    numerical = calculate_numerical_forces(atoms, eps=1e-4)
    scale = np.abs(numerical).max()
    assert np.abs(atoms.get_forces() - numerical).max() < 1e-6 * scale


@pytest.mark.parametrize("function", FUNCTIONS)
def test_stress_by_finite_differences(function):
    atoms = with_calc(crystal(), function=function)
    numerical = calculate_numerical_stress(atoms, eps=1e-5)
    stress = atoms.get_stress()
    assert np.abs(stress - numerical).max() < 1e-6 * np.abs(numerical).max()
    np.testing.assert_allclose(atoms.get_stresses().sum(axis=0), stress, atol=1e-12)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_rotation_inversion_translation_permutation(function):
    atoms = with_calc(crystal(), function=function)
    energy, forces, stress = (
        atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress(voigt=False)
    )  # fmt: skip
    turn = -Rotation.from_rotvec([0.3, -1.2, 0.7]).as_matrix()
    order = np.random.default_rng(0).permutation(len(atoms))
    other = atoms[order]
    other.set_cell(atoms.cell.array @ turn.T)
    other.positions = atoms.positions[order] @ turn.T + [1.0, -20.0, 3.0]
    other.calc = atoms.calc
    assert abs(other.get_potential_energy() - energy) < 1e-10
    np.testing.assert_allclose(other.get_forces(), forces[order] @ turn.T, atol=1e-10)
    np.testing.assert_allclose(other.get_stress(voigt=False), turn @ stress @ turn.T, atol=1e-10)


def test_energies_sum_and_free_energy():
    atoms = with_calc(ethanol())
    assert atoms.get_potential_energies().sum() == pytest.approx(atoms.get_potential_energy())
    assert atoms.get_potential_energy(force_consistent=True) == atoms.get_potential_energy()
    np.testing.assert_allclose(atoms.get_forces().sum(axis=0), 0, atol=1e-12)


def test_one_atom_has_its_isolated_energy_and_no_force():
    atoms = with_calc(Atoms("C"))
    assert atoms.get_potential_energy() == pytest.approx(-1030.0, abs=1e-12)
    assert (atoms.get_forces() == 0).all()
    assert atoms.calc.get_hessian().shape == (3, 3)


def test_energy_and_force_are_smooth_at_the_cutoff():
    atoms = with_calc(Atoms("CO", positions=[[0, 0, 0], [4.0, 0, 0]]))
    outside = -1030.0 - 2040.0
    previous = None
    for distance in (3.9, 3.99, 3.999, 4.0, 4.001):
        atoms.positions[1, 0] = distance
        values = abs(atoms.get_potential_energy() - outside), abs(atoms.get_forces()).max()
        if previous is not None and distance < 4.0:  # third order in the distance to the cutoff
            assert values[0] < previous[0] / 500
            assert values[1] < previous[1] / 50
        previous = values
    assert previous == (0.0, 0.0)


def test_stress_of_a_molecule_is_refused():
    atoms = with_calc(ethanol())
    atoms.get_potential_energy()
    with pytest.raises(PropertyNotImplementedError, match="needs a cell with a volume"):
        atoms.get_stress()


def test_float32_is_close_and_energy_is_double():
    exact, single = with_calc(ethanol()), with_calc(ethanol(), dtype="float32")
    assert abs(exact.get_potential_energy() - single.get_potential_energy()) < 1e-4
    np.testing.assert_allclose(exact.get_forces(), single.get_forces(), atol=1e-4)
    assert single.get_forces().dtype == np.float64


@pytest.mark.parametrize("function", FUNCTIONS)
def test_swap_keeps_the_numbers(function):
    atoms = with_calc(crystal(), function=function)
    reference = {k: atoms.calc.get_property(k, atoms) for k in ("energy", "forces", "stress")}
    variants, _ = autotune.runnable_variants(POTENTIALS[function])
    for variant in variants:
        calc = atoms.calc.swap(variant)
        assert calc.variant == variant
        assert calc.results == {}
        assert abs(atoms.get_potential_energy() - reference["energy"]) < 1e-10 * len(atoms)
        np.testing.assert_allclose(atoms.get_forces(), reference["forces"], atol=1e-9, rtol=0)
        np.testing.assert_allclose(atoms.get_stress(), reference["stress"], atol=1e-9, rtol=0)


def test_200_nve_steps_are_the_same_with_every_exact_variant():
    trajectories = {}
    for variant in autotune.runnable_variants(POTENTIALS["cg"])[0]:
        atoms = with_calc(ethanol(), variant=variant)
        rng = np.random.default_rng(3)
        atoms.set_velocities(rng.normal(scale=0.005, size=(len(atoms), 3)))
        VelocityVerlet(atoms, 0.2 * fs).run(200)
        trajectories[variant] = atoms.positions
    first = trajectories.pop("cg/reference")
    for positions in trajectories.values():
        assert np.abs(positions - first).max() < 1e-6


def test_swap_to_another_function_or_a_misspelt_variant():
    calc = calculator()
    with pytest.raises(InputError, match="computes another function than 'cg'"):
        calc.swap("gaunt/grid")
    with pytest.raises(InputError, match="did you mean 'cg/sparse'"):
        calculator(variant="cg/spars")
    assert calc.variant == POTENTIALS["cg"].variant


def test_the_given_potential_is_not_changed():
    potential = POTENTIALS["cg"]
    before = potential.variant
    calculator(variant="cg/sparse", dtype="float32")
    assert potential.variant == before
    assert potential.dtype == torch.float64


def test_global_state_of_torch_is_not_touched():
    torch.manual_seed(11)
    state = torch.get_rng_state()
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    with torch.no_grad():
        atoms = with_calc(ethanol())
        forces = atoms.get_forces()
        assert not torch.is_grad_enabled()
    assert np.abs(forces).max() > 0
    assert torch.equal(torch.get_rng_state(), state)
    assert (torch.get_num_threads(), torch.get_default_dtype()) == (threads, dtype)


def test_any_default_dtype_gives_the_same(monkeypatch):
    expected = with_calc(ethanol()).get_forces()
    torch.set_default_dtype(torch.float64)
    try:
        np.testing.assert_array_equal(with_calc(ethanol()).get_forces(), expected)
    finally:
        torch.set_default_dtype(torch.float32)


def test_unknown_element():
    atoms = with_calc(molecule("CH3Cl"))
    with pytest.raises(InputError, match=r"element 'Cl' \(atom \d\).*it knows H, C, O"):
        atoms.get_potential_energy()


def test_nan_positions_overlap_and_flat_cell():
    atoms = with_calc(ethanol())
    atoms.positions[4, 1] = np.nan
    with pytest.raises(InputError, match="position of atom 4"):
        atoms.get_forces()
    with pytest.raises(InputError, match="atoms 0 and 1 are"):
        with_calc(Atoms("HH", positions=[[0, 0, 0], [0, 0, 1e-4]])).get_forces()
    with pytest.raises(InputError, match="spans no volume"):
        with_calc(Atoms("HH", positions=[[0, 0, 0], [0, 0, 1]], pbc=True)).get_forces()


def test_result_that_is_not_finite_names_the_atom():
    atoms = with_calc(ethanol())
    calc = atoms.calc
    calc.potential.model.embedding[calc.potential.species.index("O")] = 1e200
    with pytest.raises(CheckFailed, match="atom .* is not finite"):
        atoms.get_forces()


def test_unknown_argument_dtype_and_empty_committee():
    with pytest.raises(TypeError, match="skim"):
        TPCalculator(POTENTIALS["cg"], skim=1.0)
    with pytest.raises(InputError, match="unknown dtype 'float46'"):
        TPCalculator(POTENTIALS["cg"], dtype="float46")
    with pytest.raises(InputError, match="committee is empty"):
        TPCalculator([])


def test_changed_atoms_are_noticed():
    atoms = with_calc(ethanol())
    first = atoms.get_potential_energy()
    atoms.positions[0, 0] += 0.01
    second = atoms.get_potential_energy()
    assert second != first
    atoms.numbers[0], atoms.numbers[1] = atoms.numbers[1], atoms.numbers[0] + 1
    atoms.numbers[:] = 1
    assert atoms.get_potential_energy() != second
    del atoms[0]
    assert len(atoms.get_forces()) == len(atoms)


def test_only_what_the_potential_reads_makes_it_run_again():
    atoms = with_calc(crystal())
    atoms.get_forces()
    for change in (atoms.set_initial_charges, atoms.set_tags):
        change([1] * len(atoms))
    assert atoms.calc.check_state(atoms) == []
    atoms.pbc = [True, True, False]
    atoms.cell[2] *= 1.5
    assert set(atoms.calc.check_state(atoms)) == {"pbc", "cell"}
    assert np.isfinite(atoms.get_stress()).all()


def test_no_atoms_and_no_neighbours():
    atoms = with_calc(Atoms())
    assert atoms.get_potential_energy() == 0.0
    assert atoms.get_forces().shape == (0, 3)
    pair = with_calc(Atoms("HO", positions=[[0, 0, 0], [9, 0, 0]]))
    assert pair.get_potential_energy() == pytest.approx(-13.6 - 2040.0, abs=1e-12)


def test_hessian():
    atoms = with_calc(ethanol())
    hessian = atoms.calc.get_hessian(atoms)
    numerical = atoms.calc.get_hessian(atoms, method="finite_differences")
    assert np.abs(hessian - numerical).max() < 1e-5 * np.abs(hessian).max()
    np.testing.assert_allclose(hessian, hessian.T)
    blocks = hessian.reshape(len(atoms), 3, len(atoms), 3)
    np.testing.assert_allclose(blocks.sum(axis=2), 0, atol=1e-8)  # moving all atoms costs nothing
    with pytest.raises(InputError, match="unknown method 'fd'"):
        atoms.calc.get_hessian(atoms, method="fd")


def test_torchscript_is_not_profiled():
    """torch's profiling executor has made no plan: no later call compiles."""
    atoms = with_calc(ethanol(), mode="torchscript")
    for _ in range(4):
        atoms.positions[0, 0] += 1e-3
        atoms.get_forces()
    with pytest.raises(RuntimeError, match="optimized_plan_"):
        atoms.calc.evaluators[0].run.module.get_debug_state()


def test_torchscript_mode_gives_the_same_numbers_after_each_swap():
    atoms = with_calc(crystal(), mode="torchscript")
    eager = with_calc(crystal())
    for variant in ("cg/reference", "cg/grouped", "cg/sparse"):
        atoms.calc.swap(variant)
        for step in range(5):  # the first calls are profiled, compiled and specialised
            for a in (atoms, eager):
                a.positions[0] += 0.1 * step
            np.testing.assert_allclose(atoms.get_forces(), eager.get_forces(), atol=1e-11)
            np.testing.assert_allclose(atoms.get_stress(), eager.get_stress(), atol=1e-11)
    np.testing.assert_allclose(
        atoms.calc.get_hessian(atoms), eager.calc.get_hessian(eager), atol=1e-8
    )
    with pytest.raises(InputError, match="unknown mode 'eagr'; did you mean 'eager'"):
        calculator(mode="eagr")


def test_committee():
    members = [random_potential(seed=s) for s in range(3)]
    atoms = crystal()
    single = [TPCalculator(m, dtype="float64").evaluate([atoms])[0] for m in members]
    atoms.calc = TPCalculator(members, dtype="float64", variant="cg/sparse")
    energies = [r["energy"] for r in single]
    assert atoms.get_potential_energy() == pytest.approx(np.mean(energies))
    assert atoms.calc.results["energy_std"] == pytest.approx(np.std(energies))
    np.testing.assert_allclose(atoms.get_forces(), np.mean([r["forces"] for r in single], axis=0))
    assert atoms.calc.results["forces_std"].shape == (len(atoms), 3)
    assert "committee of 3" in repr(atoms.calc)


def test_batch_equals_one_by_one():
    structures = [ethanol(), crystal(), Atoms("O"), molecule("CO2"), molecule("H2O")]
    calc = calculator()
    for max_edges in (10, 10**6):
        for result, atoms in zip(calc.evaluate(structures, max_edges), structures):
            atoms.calc = calc
            assert result["energy"] == pytest.approx(atoms.get_potential_energy(), abs=1e-10)
            np.testing.assert_allclose(result["forces"], atoms.get_forces(), atol=1e-10)
            if "stress" in result:
                full = voigt_6_to_full_3x3_stress(result["stress"])
                np.testing.assert_allclose(full, atoms.get_stress(voigt=False), atol=1e-10)
    assert calc.evaluate([]) == []


def test_auto_measures_once_and_remembers(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = save_potential(POTENTIALS["cg"], tmp_path / "p.safetensors")
    atoms = ethanol()
    atoms.calc = TPCalculator(path, variant="auto")
    assert atoms.calc.variant == "auto"
    atoms.get_forces()
    assert atoms.calc.variant in autotune.runnable_variants(POTENTIALS["cg"])[0]

    def never(*_):
        raise AssertionError("measured again")

    monkeypatch.setattr(autotune, "fastest", never)
    again = TPCalculator(path, variant="auto")
    again.get_potential_energy(atoms)
    assert again.variant == atoms.calc.variant
    (tmp_path / "tpcalc" / "fastest.json").write_text("{broken")
    with pytest.raises(AssertionError, match="measured again"):
        TPCalculator(path, variant="auto").get_potential_energy(atoms)


def test_from_a_file(tmp_path):
    path = save_potential(POTENTIALS["cg"], tmp_path / "p.safetensors")
    atoms = ethanol()
    atoms.calc = TPCalculator(str(path), dtype="float64")
    assert atoms.get_potential_energy() == with_calc(ethanol()).get_potential_energy()
    assert "cutoff 4.0 Å" in repr(atoms.calc)
