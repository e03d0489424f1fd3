"""The shipped potentials: they say what they said, their cards are true, their dynamics hold."""

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
from tpcalc.train import card
from tpcalc.train.evaluate import overall
from tpcalc.verify import verify

ROOT = Path(__file__).parents[1]
STRUCTURE = ROOT / "examples" / "3bpa.xyz"
MODELS = sorted((ROOT / "models").glob("*/potential.safetensors"))
TRIO = [p for p in MODELS if p.parent.name in ("3bpa-cg", "3bpa-gaunt", "3bpa-shared")]
# meV/Å on the first test set
FORCE_LIMIT = {
    "3bpa-cg": 20.0, "3bpa-shared": 35.0, "3bpa-gaunt": 35.0, "water-cg": 60.0, "si-cg": 100.0,
}  # fmt: skip


def name(path):
    return path.parent.name


def first_test(path):
    """File of the first test set, relative to the data."""
    return Path(read_manifest(path)["training"]["config"]["data"]["test"][0])


def test_those_of_the_readme_are_there():
    assert set(FORCE_LIMIT) == {name(path) for path in MODELS}


@pytest.mark.parametrize("path", MODELS, ids=name)
def test_stored_predictions_with_every_exact_variant(path):
    expected = json.loads((path.parent / "predictions.json").read_text())
    frames = card.structures(card.default_structure(path.parent))
    calculator = TPCalculator(path, dtype="float64")
    for variant in runnable_variants(calculator.potential)[0]:
        results = calculator.swap(variant).evaluate(frames)
        for result, frame in zip(results, expected, strict=True):
            difference = abs(result["energy"] - frame["energy_eV"]) / len(result["forces"])
            assert difference < 1e-10, variant
            np.testing.assert_allclose(result["forces"], frame["forces_eV_A"], atol=1e-9, rtol=0)


@pytest.mark.parametrize("path", MODELS, ids=name)
def test_card_is_the_manifest(path):
    """Word for word what `python -m tpcalc.train.card` writes; the command is in it."""
    potential = load_potential(path)
    for key in ("licence", "citation", "training", "accuracy", "data_sha256"):
        assert potential.manifest.get(key), key
    text = (path.parent / "README.md").read_text()
    again = f"run `python -m tpcalc.train.card models/{name(path)}`"
    assert text == card.card_text(potential, path.parent, path.stat().st_size), again
    assert card.accuracy_table(card.accuracy_rows(potential.manifest)) in text
    assert f"tpcalc train models/{name(path)}/train.yaml" in text


@pytest.mark.parametrize("path", MODELS, ids=name)
def test_accuracy_in_the_manifest(path):
    manifest = read_manifest(path)
    table = {k: overall(v)["forces_rmse"] for k, v in manifest["accuracy"].items()}
    assert table[first_test(path).stem] <= FORCE_LIMIT[name(path)]
    tests = manifest["training"]["config"]["data"]["test"]
    assert {"valid", *(Path(test).stem for test in tests)} == set(table)


def test_equal_budget():
    """The three differ in the function alone: frames, steps, seed and size of batches, in both
    runs."""
    keys = ("epochs", "steps", "seed", "train_frames", "valid_frames")
    first = ("epochs", "steps", "train_frames", "train")
    budgets = {}
    for path in TRIO:
        training = read_manifest(path)["training"]
        budgets[name(path)] = [training[k] for k in keys]
        budgets[name(path)] += [training["started_from"][k] for k in first]
    assert len({tuple(budget) for budget in budgets.values()}) == 1, budgets
    sums = [read_manifest(p)["data_sha256"] for p in TRIO]
    assert all(one == sums[0] for one in sums)


@pytest.mark.data
@pytest.mark.parametrize("path", MODELS, ids=name)
def test_accuracy_is_recomputed(path, data_dir, capsys):
    data = str(data_dir / first_test(path))
    assert main(["evaluate", str(path), data, "--json"]) == 0
    measured = overall(json.loads(capsys.readouterr().out)[data])
    stored = overall(read_manifest(path)["accuracy"][first_test(path).stem])
    assert measured["frames"] == stored["frames"]
    # float32 and possibly another algorithm: the sums of 10^4 errors agree closely all the same
    for key in ("forces_rmse", "forces_mae"):
        assert measured[key] == pytest.approx(stored[key], rel=1e-3)
    for key in ("energy_rmse", "energy_mae"):
        assert measured[key] == pytest.approx(stored[key], rel=1e-2, abs=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("path", MODELS, ids=name)
def test_certificate(path):
    """Measured again here, and the one in the file, where there is one, covers these weights."""
    assert verify(path)["passed"]
    stored = read_manifest(path).get("certificates")
    if stored is not None:
        assert stored["passed"]
        function = read_manifest(path)["function"]
        assert all(row["variant"].startswith(f"{function}/") for row in stored["rows"])


def nve(path, steps, timestep, variant=None):
    """From the minimum at 600 K, half of which becomes potential energy: dynamics at 300 K."""
    atoms = read(STRUCTURE)
    atoms.calc = TPCalculator(path, variant, dtype="float64")
    settings = MDSettings(steps=steps, timestep=timestep, temperature=600.0, log_interval=2)
    return run_md(atoms, settings), atoms


@pytest.mark.slow
@pytest.mark.parametrize("path", TRIO[:1], ids=name)
def test_nve_of_3bpa_at_300_k(path):
    """2 ps at 0.5 fs; some 45 s of CPU time with the fused kernels."""
    summary, _ = nve(path, 4000, 0.5)
    assert abs(summary["nve_drift_meV_atom_ps"]) < 0.1
    assert 200 < summary["temperature_K"] < 400


@pytest.mark.slow
@pytest.mark.parametrize("path", TRIO[:1], ids=name)
def test_fluctuation_falls_by_four_when_the_step_is_halved(path):
    long, short = (nve(path, int(200 / dt), dt)[0] for dt in (0.5, 0.25))
    ratio = long["nve_fluctuation_meV_atom"] / short["nve_fluctuation_meV_atom"]
    assert ratio == pytest.approx(4.0, abs=0.8)


@pytest.mark.slow
@pytest.mark.parametrize("path", TRIO[:1], ids=name)
def test_200_nve_steps_are_the_same_with_every_exact_variant(path):
    ends = {
        variant: nve(path, 200, 0.5, variant)[1].positions
        for variant in runnable_variants(load_potential(path))[0]
    }
    first = next(iter(ends.values()))
    for variant, positions in ends.items():
        assert np.abs(positions - first).max() < 1e-6, variant
