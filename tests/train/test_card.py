"""The card of a potential: its numbers are those of the manifest, its command is the one."""

import json
import re
import shlex

import ase.io
import numpy as np
import pytest
from ase.build import molecule
from tests.train import tiny
from tpcalc import TPCalculator
from tpcalc.storage import read_manifest, update_manifest
from tpcalc.train import card
from tpcalc.train.config import config_to_dict, load_config
from tpcalc.train.run import train


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A trained potential in models/methanol-cg, beside examples/methanol.xyz (here: methanol)."""
    root = tmp_path_factory.mktemp("root")
    folder = root / "models" / "methanol-cg"
    folder.mkdir(parents=True)
    (root / "examples").mkdir()
    molecule("CH3OH").write(root / "examples" / "methanol.xyz")
    frames = tiny.methanol()
    ase.io.write(folder / "hot.xyz", frames[-9:], format="extxyz")
    path = tiny.folder_with(
        folder,
        frames,
        data={"train": "train.xyz", "test": ["hot.xyz"]},
        licence="MIT",
        citation="us, today",
    )
    train(load_config(path, ["optimizer.lr=0.005"]), folder, log=lambda line: None)
    assert card.main([str(folder)]) == 0
    return folder


def test_table_is_the_manifest(folder):
    text = (folder / "README.md").read_text()
    manifest = read_manifest(folder / "potential.safetensors")
    rows = [re.split(r"\s*\|\s*", line)[1:-1] for line in text.splitlines() if line[:2] == "| "]
    header = rows[0]
    assert header[2:] == [
        "E/atom RMSE meV/atom", "E/atom MAE meV/atom", "E RMSE meV", "E MAE meV",
        "F RMSE meV/Å", "F MAE meV/Å",
    ]  # fmt: skip
    table = {row[0]: dict(zip(header, row)) for row in rows[1:] if len(row) == len(header)}
    # validation: methanol at one temperature; hot: at both
    assert len(manifest["accuracy"]["valid"]) == 1
    assert list(table) == ["valid", *(f"hot, {kind}" for kind in manifest["accuracy"]["hot"])]
    for kind, row in manifest["accuracy"]["hot"].items():
        shown = table[f"hot, {kind}"]
        assert int(shown["frames"]) == row["frames"]
        assert float(shown["E/atom MAE meV/atom"]) == pytest.approx(
            row["energy_per_atom_mae"], abs=0.0051
        )
        assert float(shown["F RMSE meV/Å"]) == pytest.approx(row["forces_rmse"], abs=0.0051)


def test_command_budget_and_limits(folder):
    text = (folder / "README.md").read_text()
    line = next(line for line in text.splitlines() if line.startswith("tpcalc train"))
    words = shlex.split(line)
    assert words[2] == "models/methanol-cg/train.yaml"
    config = load_config(folder / "train.yaml", [words[i + 1] for i in range(3, len(words), 2)])
    manifest = read_manifest(folder / "potential.safetensors")
    assert config_to_dict(config) == manifest["training"]["config"]
    assert config.optimizer.lr == 0.005
    for words in ("Weights: MIT. Data: us, today.", "3 epochs", "of CPU time", "threads: 1",
                  "Other elements than H, C, O", "`cg`", "7 Å in all"):  # fmt: skip
        assert words in text, words
    for sha in manifest["data_sha256"].values():
        assert sha in text
    assert not list(folder.glob("*.part"))


def test_predictions(folder):
    expected = json.loads((folder / "predictions.json").read_text())
    calculator = TPCalculator(folder / "potential.safetensors", "cg/e3nn", dtype="float64")
    frames = card.structures(folder.parents[1] / "examples" / "methanol.xyz")
    assert len(expected) == len(frames) == 4
    for atoms, stored in zip(frames, expected, strict=True):
        atoms.calc = calculator
        assert atoms.get_potential_energy() == pytest.approx(stored["energy_eV"], abs=1e-9)
        np.testing.assert_allclose(atoms.get_forces(), stored["forces_eV_A"], atol=1e-9)
    assert np.abs(frames[1].positions - frames[2].positions).max() > 0.05


def test_what_makes_no_card(folder, tmp_path, capsys):
    assert card.main([str(tmp_path)]) == 2
    assert "no potential at" in capsys.readouterr().err
    before = (folder / "README.md").read_text()
    molecule("CH3SH").write(tmp_path / "s.xyz")
    assert card.main([str(folder), "--structure", str(tmp_path / "s.xyz")]) == 2
    assert "element 'S'" in capsys.readouterr().err
    assert card.main([str(folder), "--structure", str(tmp_path / "no.xyz")]) == 2
    assert "--structure" in capsys.readouterr().err
    assert (folder / "README.md").read_text() == before


def test_card_needs_the_record_of_the_training(folder, tmp_path, capsys):
    other = tmp_path / "models" / "other"
    other.mkdir(parents=True)
    (other / "potential.safetensors").write_bytes((folder / "potential.safetensors").read_bytes())
    assert (
        card.main([str(other), "--structure", str(folder.parents[1] / "examples/methanol.xyz")])
        == 2
    )
    assert "lacks train.yaml" in capsys.readouterr().err
    update_manifest(other / "potential.safetensors", description="kept")
    assert "training" in read_manifest(other / "potential.safetensors")
