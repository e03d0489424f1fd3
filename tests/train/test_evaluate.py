"""The table of errors: equals a direct computation with the calculator and numpy."""

import json

import ase.io
import numpy as np
import pytest
from tests.small import SPECIES, crystal, ethanol, random_potential
from tpcalc import TPCalculator
from tpcalc.cli import main
from tpcalc.storage import save_potential
from tpcalc.train.evaluate import format_table


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A stored random potential and labelled structures of two kinds."""
    folder = tmp_path_factory.mktemp("evaluate")
    save_potential(random_potential(), folder / "a.safetensors")
    rng = np.random.default_rng(0)
    structures = [ethanol(1), crystal(2), ethanol(3), crystal(4), ethanol(5)]
    for atoms in structures:
        atoms.info["REF_energy"] = float(rng.normal() - 7000)
        atoms.info["config_type"] = "solid" if atoms.pbc.all() else "molecule"
        atoms.arrays["REF_forces"] = rng.normal(size=(len(atoms), 3))
        if atoms.pbc.all():
            stress = rng.normal(size=(3, 3))
            atoms.info["REF_stress"] = (stress + stress.T).ravel()
    ase.io.write(folder / "a.xyz", structures, format="extxyz")
    return folder


def expected(files, kind):
    """MAE and RMSE in meV and Å, one structure after the other."""
    calculator = TPCalculator(files / "a.safetensors", dtype="float64")
    errors = {"energy": [], "energy_per_atom": [], "forces": [], "stress": []}
    for atoms in ase.io.read(files / "a.xyz", ":"):
        if kind not in ("all", atoms.info["config_type"]):
            continue
        atoms.calc = calculator
        error = atoms.get_potential_energy() - atoms.info["REF_energy"]
        errors["energy"].append([error])
        errors["energy_per_atom"].append([error / len(atoms)])
        errors["forces"].append((atoms.get_forces() - atoms.arrays["REF_forces"]).ravel())
        if "REF_stress" in atoms.info:
            stress = atoms.get_stress(voigt=False).ravel()
            errors["stress"].append(stress - atoms.info["REF_stress"])
    table = {}
    for name, parts in errors.items():
        if parts:
            all_errors = 1e3 * np.concatenate(parts)
            table[f"{name}_mae"] = np.abs(all_errors).mean()
            table[f"{name}_rmse"] = np.sqrt((all_errors**2).mean())
    return table


@pytest.mark.parametrize("batch", ["1", "2", "25"])
def test_evaluate_equals_the_calculator(files, capsys, batch):
    arguments = [str(files / "a.safetensors"), str(files / "a.xyz"), "--json", "--dtype", "float64"]
    assert main(["evaluate", *arguments, "--batch-size", batch]) == 0
    table = json.loads(capsys.readouterr().out)[str(files / "a.xyz")]
    assert {name: row.pop("frames") for name, row in table.items()} == {
        "molecule": 3, "solid": 2, "all": 5
    }  # fmt: skip
    for kind, row in table.items():
        assert row == pytest.approx(expected(files, kind), rel=1e-9), kind


def test_text_and_other_variant(files, capsys):
    arguments = [str(files / "a.safetensors"), str(files / "a.xyz"), "--variant", "cg/e3nn"]
    assert main(["evaluate", *arguments]) == 0
    text = capsys.readouterr().out
    assert "(cg/e3nn, float32)" in text
    assert "F RMSE meV/Å" in text
    row = next(line for line in text.splitlines() if line.startswith("molecule"))
    assert float(row.split()[-3]) == pytest.approx(expected(files, "molecule")["forces_rmse"], 0.01)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--energy-key", "E", "--forces-key", "F", "--stress-key", "S"], ["'E'", "REF_energy"]),
        (["--variant", "cg/sparce"], ["'cg/sparce'", "did you mean 'cg/sparse'"]),
        (["--batch-size", "0"], ["--batch-size is 0"]),
    ],
)
def test_bad_arguments(files, capsys, arguments, words):
    paths = [str(files / "a.safetensors"), str(files / "a.xyz")]
    assert main(["evaluate", *paths, *arguments]) == 2
    error = capsys.readouterr().err
    assert all(word in error for word in words), error


def test_unknown_element_and_absent_file(files, capsys, tmp_path):
    atoms = ethanol()
    atoms.symbols[0] = "S"
    atoms.info["REF_energy"] = 0.0
    ase.io.write(tmp_path / "s.xyz", atoms, format="extxyz")
    assert main(["evaluate", str(files / "a.safetensors"), str(tmp_path / "s.xyz")]) == 2
    assert f"contains S; the potential knows {', '.join(SPECIES)}" in capsys.readouterr().err
    assert main(["evaluate", str(files / "a.safetensors"), "no.xyz"]) == 2
    assert "'no.xyz'" in capsys.readouterr().err


def test_table_shows_what_was_labelled():
    table = {"a": {"frames": 2, "forces_mae": 1.0, "forces_rmse": 2.0}, "b": {"frames": 1}}
    lines = format_table(table).splitlines()
    assert lines[0].split() == ["frames", "F", "MAE", "meV/Å", "F", "RMSE", "meV/Å"]
    assert lines[1].split() == ["a", "2", "1.00", "2.00"]
    assert lines[2].split() == ["b", "1", "-", "-"]
