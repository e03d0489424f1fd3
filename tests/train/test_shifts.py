"""Baselines and learning rates against closed forms."""

import math

import numpy as np
import pytest
from tpcalc.errors import InputError
from tpcalc.train.config import BaselineConfig, ScheduleConfig
from tpcalc.train.data import Frame
from tpcalc.train.schedule import Schedule
from tpcalc.train.shifts import energy_scale, energy_shifts, isolated_energies

FORMULAS = ["HHO", "HHHHC", "COO", "CO", "HHHHCO"]
TRUE = {"H": -13.6, "C": -1030.0, "O": -2040.0}


def frames(extra=0.0):
    rng = np.random.default_rng(0)
    return [
        Frame(
            symbols=list(formula),
            positions=rng.normal(size=(len(formula), 3)),
            cell=np.zeros((3, 3)),
            pbc=np.zeros(3, dtype=bool),
            energy=sum(TRUE[s] for s in formula) + extra * len(formula),
            forces=rng.normal(size=(len(formula), 3)),
            stress=None,
            config_type="all",
        )
        for formula in FORMULAS
    ]


def test_least_squares_finds_the_energies_of_the_atoms():
    found = energy_shifts(frames(), list(TRUE), {}, "least_squares")
    assert found == pytest.approx(list(TRUE.values()), rel=1e-10)
    start = {name: value + 5.0 for name, value in TRUE.items()}
    found = energy_shifts(frames(), list(TRUE), start, "least_squares")
    assert found == pytest.approx(list(TRUE.values()), rel=1e-10)


def test_one_composition_alone_keeps_the_isolated_atoms_and_fits_the_rest():
    one = frames(extra=-2.0)[:1]
    shifts = energy_shifts(one, ["H", "O"], {"H": -13.6, "O": -2040.0}, "least_squares")
    assert 2 * shifts[0] + shifts[1] == pytest.approx(one[0].energy, rel=1e-12)
    # smallest correction: along the composition (2, 1), -6 eV in all
    assert shifts == pytest.approx([-13.6 - 2.4, -2040.0 - 1.2])


def test_isolated_energies_are_taken_or_missed():
    atoms = [f for f in frames() if len(f.symbols) == 1]
    assert isolated_energies(atoms) == {}
    assert energy_shifts(frames(), ["H", "C"], TRUE, "isolated") == [-13.6, -1030.0]
    with pytest.raises(InputError, match="no isolated-atom energy for O .found: H, C.*least_sq"):
        energy_shifts(frames(), list(TRUE), {"H": -13.6, "C": -1030.0}, "isolated")


def test_scale():
    shifts = list(TRUE.values())
    forces = np.concatenate([f.forces for f in frames()])
    rms = energy_scale(frames(), list(TRUE), shifts, BaselineConfig())
    assert rms == pytest.approx(math.sqrt((forces**2).mean()))
    assert energy_scale(frames(), list(TRUE), shifts, BaselineConfig(scale=0.7)) == 0.7
    with pytest.raises(InputError, match=r"energy_std is .*set a number in eV"):
        energy_scale(frames()[:1], list(TRUE), shifts, BaselineConfig(scale="energy_std"))


@pytest.mark.parametrize("name", ["cosine", "exponential"])
def test_decay_goes_from_one_to_the_final_fraction(name):
    schedule = Schedule(ScheduleConfig(name=name, final_fraction=0.04))
    assert schedule.factor(10, 0.0) == pytest.approx(1.0)
    middle = {"cosine": 0.52, "exponential": 0.2}[name]
    assert schedule.factor(10, 0.5) == pytest.approx(middle)
    assert schedule.factor(10, 1.0) == pytest.approx(0.04)


def test_warm_up_and_plateau():
    schedule = Schedule(ScheduleConfig(name="plateau", warmup_steps=4, factor=0.5, patience=2))
    assert [schedule.factor(step, 0.0) for step in range(5)] == pytest.approx(
        [0.2, 0.4, 0.6, 0.8, 1.0]
    )
    for metric in (1.0, 0.9, 0.95, 0.95):
        schedule.observe(metric)
    assert schedule.factor(100, 0.5) == 1.0
    schedule.observe(0.95)
    assert schedule.factor(100, 0.5) == 0.5
    other = Schedule(schedule.config)
    other.load(schedule.state())
    assert other.factor(100, 0.5) == 0.5
