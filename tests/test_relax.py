"""Relaxations: minima, resume, rows for what fails."""

import json

import ase.io
import numpy as np
import pytest
from ase.build import molecule
from ase.calculators.lj import LennardJones
from tests.small import crystal, ethanol, random_potential
from tpcalc import TPCalculator
from tpcalc.errors import InputError
from tpcalc.relax import RelaxSettings, relax, relax_many

POTENTIAL = random_potential()


def calculator():
    return TPCalculator(POTENTIAL, dtype="float64")


@pytest.mark.parametrize("optimizer", ["lbfgs", "fire"])
def test_a_pair_finds_the_minimum_of_lennard_jones(optimizer):
    atoms = molecule("N2")
    atoms.positions[1] = atoms.positions[0] + [0, 0, 1.15]
    atoms.calc = LennardJones(sigma=1.0, epsilon=1.0, rc=6.0)
    row = relax(atoms, RelaxSettings(fmax=1e-5, optimizer=optimizer, steps=2000))
    assert atoms.get_distance(0, 1) == pytest.approx(2 ** (1 / 6), abs=1e-4)
    assert row["status"] == "converged"
    assert row["energy_eV"] < row["energy_start_eV"]
    assert row["fmax_eV_A"] <= 1e-5


def test_too_few_steps_are_said():
    atoms = ethanol()
    atoms.calc = calculator()
    row = relax(atoms, RelaxSettings(steps=1, fmax=1e-9))
    assert row["status"] == "not converged"
    assert row["steps"] == 1


def test_cell():
    atoms = crystal()
    atoms.calc = calculator()
    before = atoms.cell.array.copy()
    relax(atoms, RelaxSettings(steps=3, cell=True))
    assert np.abs(atoms.cell.array - before).max() > 0
    with pytest.raises(InputError, match="no direction is periodic"):
        relax(ethanol(), RelaxSettings(cell=True))


def test_one_bad_structure_does_not_stop_the_others():
    structures = [molecule("H2O"), molecule("HCl"), molecule("CO")]
    rows, relaxed = relax_many(structures, calculator(), RelaxSettings(steps=2))
    assert [r["id"] for r in rows] == [0, 1, 2]
    assert rows[1]["status"].startswith("failed: element 'Cl'")
    assert not rows[2]["status"].startswith("failed")
    assert len(relaxed) == 3


def test_resume_gives_the_same_files(tmp_path):
    structures = [molecule("H2O"), molecule("CO"), ethanol()]
    settings = RelaxSettings(steps=5)
    whole = tmp_path / "whole.xyz"
    rows, _ = relax_many(structures, calculator(), settings, out=whole)

    out = tmp_path / "out.xyz"
    stop_after = calculator()
    original, calls = stop_after.calculate, []

    def calculate(*args, **kwargs):
        calls.append(1)
        if len(calls) > 9:
            raise KeyboardInterrupt
        original(*args, **kwargs)

    stop_after.calculate = calculate
    with pytest.raises(KeyboardInterrupt):
        relax_many(structures, stop_after, settings, out=out)
    done = len((tmp_path / "out.jsonl").read_text().splitlines()) - 1
    assert 0 < done < 3
    with open(out, "a") as file:
        file.write("9\nhalf a frame\nC 0 0")
    with pytest.raises(InputError, match="--resume"):
        relax_many(structures, calculator(), settings, out=out)
    resumed, frames = relax_many(structures, calculator(), settings, out=out, resume=True)
    assert len(frames) == 3
    for a, b in zip(rows, resumed):
        assert {k: v for k, v in a.items() if k != "seconds"} == pytest.approx(
            {k: v for k, v in b.items() if k != "seconds"}
        )
    for a, b in zip(ase.io.read(whole, ":"), ase.io.read(out, ":")):
        np.testing.assert_allclose(a.positions, b.positions, atol=1e-7)


def test_structure_at_work_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr("tpcalc.relax._Store.KEEP_EVERY", 0.0)
    out = tmp_path / "out.xyz"
    calc = calculator()
    original, calls = calc.calculate, []

    def calculate(*args, **kwargs):
        calls.append(1)
        if len(calls) > 6:
            raise KeyboardInterrupt
        original(*args, **kwargs)

    calc.calculate = calculate
    with pytest.raises(KeyboardInterrupt):
        relax_many([ethanol()], calc, RelaxSettings(steps=10), out=out)
    kept = ase.io.read(tmp_path / "out.current.xyz")
    assert np.abs(kept.positions - ethanol().positions).max() > 1e-4
    rows, _ = relax_many([ethanol()], calculator(), RelaxSettings(steps=10), out=out, resume=True)
    kept.calc = calculator()
    assert rows[0]["energy_start_eV"] == pytest.approx(kept.get_potential_energy(), abs=1e-5)
    assert not (tmp_path / "out.current.xyz").exists()


def test_resume_of_another_task_is_refused(tmp_path):
    out = tmp_path / "out.xyz"
    relax_many([molecule("CO")], calculator(), RelaxSettings(steps=1), out=out)
    with pytest.raises(InputError, match="belongs to other structures or settings"):
        relax_many([molecule("CO")], calculator(), RelaxSettings(steps=2), out=out, resume=True)
    first = json.loads((tmp_path / "out.jsonl").read_text().splitlines()[0])
    assert set(first) == {"task"}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"optimizer": "lbfg"}, "did you mean 'lbfgs'"),
        ({"fmax": 0.0}, "fmax is 0.0"),
        ({"steps": 0}, "steps is 0"),
    ],
)
def test_settings_that_make_no_relaxation(change, sentence):
    with pytest.raises(InputError, match=sentence):
        relax(ethanol(), RelaxSettings(**change))


def test_bad_outputs(tmp_path):
    with pytest.raises(InputError, match=r"must end in \.xyz"):
        relax_many([ethanol()], calculator(), RelaxSettings(), out=tmp_path / "a.cif")
    with pytest.raises(InputError, match="no folder"):
        relax_many([ethanol()], calculator(), RelaxSettings(), out=tmp_path / "b" / "a.xyz")
