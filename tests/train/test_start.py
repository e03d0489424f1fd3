"""Fine-tuning: weights and architecture of a trained file, energies of the new labels."""

import numpy as np
import pytest
import torch
from tests.train import tiny
from tpcalc.cli import main
from tpcalc.storage import load_potential, read_manifest
from tpcalc.train.card import overall
from tpcalc.train.config import load_config
from tpcalc.train.run import train

FORCES = {"energy": 0.001}  # so few steps do not find both


def run(path):
    return train(load_config(path), path.parent, log=lambda line: None)


def fine_tune(folder, frames, **changes):
    """Arguments that start from a.safetensors in the folder above."""
    arguments = {"potential": None, "start_from": "../potential.safetensors", **changes}
    folder.mkdir()
    return tiny.folder_with(folder, frames, **arguments)


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    folder = tmp_path_factory.mktemp("first")
    run(tiny.folder_with(folder, tiny.methanol(), max_epochs=20, loss=FORCES, licence="MIT"))
    return folder


def test_it_starts_where_the_first_run_ended(first):
    """Without a step that moves, the errors are those of the file; the architecture too."""
    path = fine_tune(
        first / "same", tiny.methanol(), max_epochs=1,
        optimizer={"lr": 1e-12}, train_variant="cg/sparse",
    )  # fmt: skip
    result = run(path)
    before = read_manifest(first / "potential.safetensors")
    after = read_manifest(path.parent / "potential.safetensors")
    assert after["config"] == before["config"]
    for name, value in overall(before["accuracy"]["valid"]).items():
        assert overall(result["accuracy"]["valid"])[name] == pytest.approx(value, rel=1e-3), name
    assert after["licence"] == "MIT"
    assert after["training"]["started_from"]["file"] == "potential.safetensors"
    assert len(after["training"]["started_from"]["sha256"]) == 64


def test_it_needs_fewer_steps_than_a_new_potential(first):
    new = first / "new"
    new.mkdir()
    fresh = run(tiny.folder_with(new, tiny.methanol(), max_epochs=2, loss=FORCES))
    gentle = {"lr": 0.001, "ema_decay": 0.9}  # Adam's first steps are lr long in every weight
    path = fine_tune(first / "tuned", tiny.methanol(), max_epochs=2, loss=FORCES, optimizer=gentle)
    tuned = run(path)
    error = [overall(r["accuracy"]["valid"])["forces_rmse"] for r in (fresh, tuned)]
    assert error[1] < 0.7 * error[0]


def test_a_new_zero_of_energy_moves_shifts_not_forces(first):
    """Labels that differ by a constant per element: the potential's forces stay, its errors too."""
    moved = tiny.methanol()
    offset = {"H": 1.5, "C": -20.0, "N": 3.0, "O": 7.0}
    for atoms in moved:
        atoms.info["REF_energy"] += sum(offset[s] for s in atoms.get_chemical_symbols())
    old = load_potential(first / "potential.safetensors")
    still = {"lr": 1e-12}
    for method in ("isolated", "least_squares"):
        path = fine_tune(
            first / method, moved, max_epochs=1, optimizer=still, baseline={"shifts": method}
        )
        errors = overall(run(path)["accuracy"]["valid"])
        known = overall(read_manifest(first / "potential.safetensors")["accuracy"]["valid"])
        assert errors["forces_rmse"] == pytest.approx(known["forces_rmse"], rel=1e-3)
        new = load_potential(path.parent / "potential.safetensors")
        assert new.config["shifts"] == dict(zip(new.species, new.shifts.tolist()))
        if method == "isolated":
            expected = [s + offset[e] for e, s in zip(old.species, old.shifts.tolist())]
            np.testing.assert_allclose(new.shifts.numpy(), expected, atol=1e-9)
            assert errors["energy_rmse"] == pytest.approx(known["energy_rmse"], rel=1e-3)
        else:  # one composition: the mean error of the training frames is fitted away
            assert errors["energy_rmse"] <= known["energy_rmse"] * 1.05


def test_elements_without_a_frame_keep_their_shift(first, tmp_path):
    """A potential for C, H, O goes on with hydrogen alone."""
    frames = [a for a in tiny.methanol() if set(a.get_chemical_symbols()) == {"H"}]
    pair = tiny.methanol()[-1][[2, 3]]
    pair.info = {"REF_energy": -26.7, "config_type": "pair"}
    pair.arrays["REF_forces"] = np.zeros((2, 3))
    path = fine_tune(first / "hydrogen", [*frames, *([pair] * 12)], max_epochs=1)
    run(path)
    old = load_potential(first / "potential.safetensors")
    new = load_potential(path.parent / "potential.safetensors")
    assert new.species == old.species
    assert torch.equal(new.shifts[1:], old.shifts[1:])


def test_an_imported_potential_is_not_taken_for_the_original(first):
    """Certificates and errors of the old weights do not pass on."""
    from tpcalc.storage import update_manifest

    source = first / "imported.safetensors"
    source.write_bytes((first / "potential.safetensors").read_bytes())
    update_manifest(source, imported={"format": "mace", "goldens": [1]}, certificates=[{"a": 1}])
    path = fine_tune(
        first / "on", tiny.methanol(), max_epochs=1, start_from="../imported.safetensors"
    )
    run(path)
    manifest = read_manifest(path.parent / "potential.safetensors")
    assert "imported" not in manifest
    assert "certificates" not in manifest
    assert manifest["training"]["started_from"]["imported"] == {"format": "mace"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"start_from": "absent.safetensors"}, ["absent.safetensors", "TPCALC_DATA"]),
        ({"potential": {"cutoff": 4.0}}, ["start_from", "remove the group 'potential'"]),
        ({"train_variant": "gaunt/grid"}, ["gaunt/grid", "cg"]),
    ],
)
def test_what_cannot_start(first, tmp_path, change, words, capsys):
    arguments = {"potential": None, "start_from": str(first / "potential.safetensors"), **change}
    path = tiny.folder_with(tmp_path, tiny.methanol(12), **arguments)
    assert main(["train", str(path), "--json"]) == 2
    error = capsys.readouterr().err
    assert all(word in error for word in words), error


def test_unknown_elements_are_named(first, tmp_path, capsys):
    frames = tiny.methanol(12)
    for atoms in frames[4:]:
        atoms.symbols[0] = "N"
    path = tiny.folder_with(
        tmp_path, frames, potential=None, start_from=str(first / "potential.safetensors")
    )
    assert main(["train", str(path)]) == 2
    assert "contains N" in capsys.readouterr().err
