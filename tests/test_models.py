"""The shipped potentials: they say what they said, their cards are true, their dynamics hold."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from ase.io import read
from tpcalc import TPCalculator
from tpcalc.autotune import runnable_variants
from tpcalc.cli import main
from tpcalc.md import MDSettings, run_md
from tpcalc.storage import load_potential, read_manifest
from tpcalc.verify import verify

ROOT = Path(__file__).parents[1]
MODELS = sorted((ROOT / "models").glob("*/potential.safetensors"))
OURS = [p for p in MODELS if p.parent.name.startswith("3bpa-")]
FORCE_LIMIT = {"cg": 60.0, "shared": 100.0, "gaunt": 100.0}  # meV/Å on test_300K


def name(path):
    return path.parent.name


def structures():
    spec = importlib.util.spec_from_file_location("predict", ROOT / "models" / "predict.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.structures()


@pytest.mark.parametrize("path", OURS, ids=name)
def test_stored_predictions_with_every_exact_variant(path):
    expected = json.loads((path.parent / "predictions.json").read_text())
    calculator = TPCalculator(path, dtype="float64")
    for variant in runnable_variants(calculator.potential)[0]:
        results = calculator.swap(variant).evaluate(structures())
        for result, frame in zip(results, expected, strict=True):
            difference = abs(result["energy"] - frame["energy_eV"]) / len(result["forces"])
            assert difference < 1e-10, variant
            np.testing.assert_allclose(result["forces"], frame["forces_eV_A"], atol=2e-9, rtol=0)


@pytest.mark.parametrize("path", MODELS, ids=name)
def test_manifest_and_card(path):
    manifest = read_manifest(path)
    for key in ("licence", "citation", "training", "accuracy", "data_sha256"):
        assert manifest.get(key), key
    card = (path.parent / "README.md").read_text()
    assert "tpcalc train" in card
    assert manifest["licence"] in card


@pytest.mark.parametrize("path", OURS, ids=name)
def test_accuracy_in_the_manifest(path):
    manifest = read_manifest(path)
    table = {k: v["all"]["forces_rmse"] for k, v in manifest["accuracy"].items()}
    assert table["test_300K"] <= FORCE_LIMIT[manifest["function"]]
    assert {"test_600K", "test_1200K"} <= set(table)


@pytest.mark.data
@pytest.mark.parametrize("path", OURS, ids=name)
def test_accuracy_is_recomputed(path, data_dir, capsys):
    data = data_dir / "3bpa" / "test_300K.xyz"
    assert main(["evaluate", str(path), str(data), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    measured = next(v for v in _tables(result) if "forces_rmse" in v)["forces_rmse"]
    stored = read_manifest(path)["accuracy"]["test_300K"]["all"]["forces_rmse"]
    assert measured == pytest.approx(stored, rel=0.01)


def _tables(value):
    """All dictionaries in a nested result."""
    if isinstance(value, dict):
        yield value
        for item in value.values():
            yield from _tables(item)


@pytest.mark.slow
@pytest.mark.parametrize("path", OURS, ids=name)
def test_certificate(path):
    assert verify(path)["passed"]


def nve(path, steps, timestep, variant=None):
    atoms = read(ROOT / "examples" / "3bpa.xyz")
    atoms.calc = TPCalculator(path, variant, dtype="float64")
    settings = MDSettings(steps=steps, timestep=timestep, temperature=300.0, log_interval=2)
    return run_md(atoms, settings), atoms


@pytest.mark.slow
@pytest.mark.parametrize("path", OURS, ids=name)
def test_nve_of_3bpa_at_300_k(path):
    """2 ps at 0.5 fs."""
    summary, _ = nve(path, 4000, 0.5)
    assert abs(summary["nve_drift_meV_atom_ps"]) < 0.1
    assert 150 < summary["temperature_K"] < 450


@pytest.mark.slow
@pytest.mark.parametrize("path", OURS[:1], ids=name)
def test_fluctuation_falls_by_four_when_the_step_is_halved(path):
    long, short = (nve(path, int(400 / dt), dt)[0] for dt in (0.5, 0.25))
    ratio = long["nve_fluctuation_meV_atom"] / short["nve_fluctuation_meV_atom"]
    assert ratio == pytest.approx(4.0, abs=0.8)


@pytest.mark.slow
@pytest.mark.parametrize("path", OURS[:1], ids=name)
def test_200_nve_steps_are_the_same_with_every_exact_variant(path):
    ends = {
        variant: nve(path, 200, 0.5, variant)[1].positions
        for variant in runnable_variants(load_potential(path))[0]
    }
    first = next(iter(ends.values()))
    for variant, positions in ends.items():
        assert np.abs(positions - first).max() < 1e-6, variant
