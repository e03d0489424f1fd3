"""Dynamics: energy conservation, thermostat, files, and the sentence when a run stops."""

import csv

import ase.io
import numpy as np
import pytest
from ase.calculators.morse import MorsePotential
from ase.cluster import Octahedron
from tests.small import ethanol, random_potential
from tpcalc import TPCalculator
from tpcalc.errors import CheckFailed, InputError
from tpcalc.md import COLUMNS, MDSettings, energy_conservation, run_md, start_velocities

POTENTIAL = random_potential()


def system():
    atoms = ethanol()
    atoms.calc = TPCalculator(POTENTIAL, dtype="float64")
    return atoms


def test_nve_conserves_energy_and_the_fluctuation_falls_by_four():
    fluctuation = []
    for timestep, steps in ((0.1, 100), (0.05, 200)):
        atoms = system()
        summary = run_md(
            atoms, MDSettings(steps=steps, timestep=timestep, temperature=100, log_interval=1)
        )
        fluctuation.append(summary["nve_fluctuation_meV_atom"])
    assert fluctuation[0] / fluctuation[1] == pytest.approx(4.0, abs=0.5)


def test_same_seed_same_run_other_seed_another():
    def run(seed):
        atoms = system()
        run_md(atoms, MDSettings(steps=5, ensemble="nvt", seed=seed))
        return atoms.positions

    np.testing.assert_array_equal(run(1), run(1))
    assert np.abs(run(1) - run(2)).max() > 1e-6


def test_langevin_reaches_its_temperature():
    """A Morse cluster, ASE's own calculator: the thermostat is ours, the forces are not."""
    atoms = Octahedron("Cu", 4)
    atoms.calc = MorsePotential(epsilon=0.5, r0=2.6, rho0=4.0, rcut1=5.0, rcut2=6.0)
    settings = MDSettings(
        steps=1500, timestep=3.0, ensemble="nvt", temperature=300, friction=0.02, log_interval=5
    )
    summary = run_md(atoms, settings)
    assert summary["temperature_K"] == pytest.approx(300, rel=0.1)
    assert "nve_drift_meV_atom_ps" not in summary


def test_start_velocities_have_the_temperature_and_no_drift():
    atoms = ethanol()
    start_velocities(atoms, 250.0, seed=3)
    assert atoms.get_temperature() == pytest.approx(250.0)
    np.testing.assert_allclose(atoms.get_momenta().sum(axis=0), 0, atol=1e-10)
    np.testing.assert_allclose(atoms.get_angular_momentum(), 0, atol=1e-8)


def test_summary_says_what_ran():
    summary = run_md(system(), MDSettings(steps=20))
    assert summary["variant"] == POTENTIAL.variant
    assert summary["variant_class"]
    assert summary["dtype"] == "float64"
    assert summary["edges"] > 0
    assert summary["ms_per_step"] <= summary["ms_per_step_p95"]
    expected = 86400e-6 * 0.5 / (summary["ms_per_step"] / 1e3)
    assert summary["ns_per_day"] == pytest.approx(expected)
    assert summary["us_per_atom_step"] == pytest.approx(1e3 * summary["ms_per_step"] / 9)


@pytest.mark.parametrize("suffix", [".xyz", ".traj"])
def test_files(tmp_path, suffix):
    settings = MDSettings(
        steps=25, interval=10, log_interval=5,
        trajectory=str(tmp_path / f"t{suffix}"), log=str(tmp_path / "log.csv"),
    )  # fmt: skip
    atoms = system()
    run_md(atoms, settings)
    frames = ase.io.read(settings.trajectory, ":")
    assert len(frames) == 4  # 0, 10, 20, 25
    np.testing.assert_allclose(frames[-1].positions, atoms.positions, atol=1e-7)
    with open(settings.log, newline="") as file:
        rows = list(csv.reader(file))
    assert tuple(rows[0]) == COLUMNS
    assert [int(r[0]) for r in rows[1:]] == [0, 5, 10, 15, 20, 25]
    with pytest.raises(InputError, match="exists; name another trajectory"):
        run_md(system(), settings)


def test_a_run_that_breaks_names_the_step_and_keeps_its_frames(tmp_path):
    atoms = system()
    atoms.set_velocities(np.full((9, 3), 0.01))
    potential, calls = atoms.calc.potential, []

    def spoil(*_):
        calls.append(1)
        if len(calls) == 4:
            potential.model.embedding[:] = float("nan")

    potential.register_forward_pre_hook(spoil)
    trajectory = tmp_path / "t.xyz"
    settings = MDSettings(steps=10, interval=1, temperature=None, trajectory=str(trajectory))
    with pytest.raises(CheckFailed, match=r"stopped at step 3: .*not finite.*t\.xyz"):
        run_md(atoms, settings)
    assert len(ase.io.read(trajectory, ":")) == 3


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"ensemble": "nvtt"}, "unknown ensemble 'nvtt'; did you mean 'nvt'"),
        ({"steps": 0}, "steps is 0"),
        ({"timestep": -1.0}, "timestep is -1.0 fs"),
        ({"temperature": -3.0}, "temperature is -3.0 K"),
        ({"ensemble": "nvt", "temperature": None}, "nvt needs a temperature"),
        ({"log": "/nowhere/log.csv"}, "no folder /nowhere"),
    ],
)
def test_settings_that_make_no_run(change, sentence):
    with pytest.raises(InputError, match=sentence):
        run_md(system(), MDSettings(**change))


def test_drift_of_a_known_line():
    rows = np.zeros((50, 7))
    rows[:, 1] = np.arange(50) * 20.0  # fs
    rows[:, 4] = -5000.0 + 2e-3 * rows[:, 1] / 1000  # 2 meV/ps
    result = energy_conservation(rows, 4)
    assert result["nve_drift_meV_atom_ps"] == pytest.approx(0.5, rel=1e-6)
    assert result["nve_fluctuation_meV_atom"] < 1e-6
