"""Runs: forces are learned, an interrupted run goes on bit for bit, nothing is lost."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
import yaml
from ase.build import bulk
from ase.calculators.lj import LennardJones
from tests.train import tiny
from tpcalc.cli import main
from tpcalc.errors import CheckFailed, InputError
from tpcalc.potential import build_potential
from tpcalc.storage import load_potential
from tpcalc.train.config import DataConfig, load_config
from tpcalc.train.data import make_graphs, read_frames, split_isolated
from tpcalc.train.loop import StopRequest, Trainer
from tpcalc.train.run import train


def run(path, log=lambda line: None, resume=False, overrides=()):
    return train(load_config(path, list(overrides)), path.parent, resume, log)


def rows(path):
    return [json.loads(line) for line in (path.parent / "run/log.jsonl").read_text().splitlines()]


def test_the_example_learns_forces(tmp_path, capsys):
    """`tpcalc train examples/train_small.yaml`, fewer epochs, as a user would start it."""
    arguments = ["max_epochs=10", f"output={tmp_path}/a.safetensors", f"run_folder={tmp_path}/run"]
    options = [word for value in arguments for word in ("--set", value)]
    assert main(["train", str(tiny.EXAMPLES / "train_small.yaml"), *options, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    errors = result["accuracy"]["valid"]["all"]
    frames = split_isolated(read_frames(tiny.DATA, DataConfig(train="")))[0]
    rms = 1e3 * np.sqrt(np.mean(np.concatenate([f.forces for f in frames]) ** 2))
    # a model that knows no bond is wrong by the RMS force, about 1 eV/Å
    assert errors["forces_rmse"] < 0.3 * rms
    # thermal potential energy at 300 K, 3/2 kT: 39 meV/atom
    assert errors["energy_per_atom_rmse"] < 30
    first, *_, last = rows(tmp_path / "train.yaml")
    assert last["train_forces"] < 0.1 * first["train_forces"]
    manifest = load_potential(tmp_path / "a.safetensors").manifest
    assert manifest["accuracy"] == result["accuracy"]
    assert manifest["training"]["config"]["max_epochs"] == 10
    assert manifest["training"]["cpu_minutes"] >= 0
    assert list(manifest["data_sha256"]) == ["xtb_small.xyz"]


def test_resumed_run_equals_the_uninterrupted_one(tmp_path):
    """Stopped by a signal in the middle of the second epoch."""
    paths = []
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
        paths.append(tiny.folder_with(tmp_path / name, tiny.methanol()))
    whole = run(paths[0])

    def stop_after_first_epoch(line):
        if line.startswith("epoch 1 "):
            signal.raise_signal(signal.SIGTERM)

    stopped = run(paths[1], stop_after_first_epoch)
    assert (stopped["status"], stopped["signal"]) == ("stopped", signal.SIGTERM)
    assert stopped["output"] is None
    assert stopped["steps"] == rows(paths[1])[0]["steps"] + 1
    resumed = run(paths[1], resume=True)
    assert resumed["status"] == "finished"
    assert resumed["accuracy"] == whole["accuracy"]
    tensors = [safetensors.torch.load_file(p.parent / "potential.safetensors") for p in paths]
    assert tensors[0].keys() == tensors[1].keys()
    for name, tensor in tensors[0].items():
        assert torch.equal(tensor, tensors[1][name]), name
    varying = ("minutes",)
    logs = [[{k: v for k, v in r.items() if k not in varying} for r in rows(p)] for p in paths]
    assert logs[0] == logs[1]


def test_sigterm_from_outside(tmp_path):
    """A process that is told to stop keeps its work, says how to go on, and writes no output."""
    path = tiny.folder_with(tmp_path, tiny.methanol(), max_epochs=100_000)
    command = [sys.executable, "-m", "tpcalc", "train", str(path)]
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(root)}
    ) as process:
        end = time.monotonic() + 120
        while not (tmp_path / "run/log.jsonl").exists() and time.monotonic() < end:
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        error = process.communicate(timeout=60)[1]
    assert process.returncode == 128 + signal.SIGTERM, error
    assert "add --resume to continue" in error
    assert "Traceback" not in error
    assert not (tmp_path / "potential.safetensors").exists()
    assert not list(tmp_path.rglob("*.part"))
    epochs = rows(path)[-1]["epoch"]
    finished = run(path, resume=True, overrides=[f"max_epochs={epochs + 1}"])
    assert (finished["status"], finished["epochs"]) == ("finished", epochs + 1)


def test_a_run_is_neither_overwritten_nor_continued_as_another(tmp_path):
    path = tiny.folder_with(tmp_path, tiny.methanol(12), max_epochs=1)
    with pytest.raises(InputError, match="no checkpoint at"):
        run(path, resume=True)
    run(path)
    before = (tmp_path / "run/checkpoint.pt").read_bytes()
    with pytest.raises(InputError, match="add --resume to continue it"):
        run(path)
    with pytest.raises(InputError, match=r"made with optimizer\.lr = 0\.01, the config says 0\.02"):
        run(path, resume=True, overrides=["optimizer.lr=0.02"])
    text = (tmp_path / "train.xyz").read_text()
    (tmp_path / "train.xyz").write_text(text.replace("config_type=isolated", "config_type=other"))
    with pytest.raises(InputError, match=r"sha256 of train\.xyz"):
        run(path, resume=True)
    assert (tmp_path / "run/checkpoint.pt").read_bytes() == before
    (tmp_path / "run/checkpoint.pt").write_bytes(before[: len(before) // 2])
    with pytest.raises(InputError, match="not a readable checkpoint"):
        run(path, resume=True)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d["data"].update(energy_key="E"), ["'E'", "REF_energy", "data.energy_key"]),
        (lambda d: d["potential"].update(hiden=1), ["hiden"]),
        (lambda d: d["potential"].update(species=["H", "C"]), ["contains O", "H, C"]),
        (lambda d: d["potential"].pop("cutoff"), ["lacks 'cutoff'"]),
        (lambda d: d.update(train_variant="gaunt/grid"), ["gaunt/grid", "cg"]),
        (lambda d: d["data"].update(train="no.xyz"), ["'no.xyz'", "TPCALC_DATA"]),
        (lambda d: d["data"].update(isolated_atoms="train.xyz", train="c.xyz"), ["c.xyz"]),
    ],
)
def test_bad_runs_are_one_line_and_exit_code_2(tmp_path, change, words, capsys):
    path = tiny.folder_with(tmp_path, tiny.methanol(12))
    arguments = yaml.safe_load(path.read_text())
    change(arguments)
    path.write_text(yaml.safe_dump(arguments))
    assert main(["train", str(path)]) == 2
    error = capsys.readouterr().err.strip()
    assert all(word in error for word in words), error
    assert error.count("\n") == 0
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "potential.safetensors").exists()


def trainer(tmp_path, frames=12, **changes):
    path = tiny.folder_with(tmp_path, tiny.methanol(frames), **changes)
    config = load_config(path)
    read = split_isolated(read_frames(tmp_path / "train.xyz", config.data))[0]
    torch.manual_seed(0)
    shifts = {"H": -10.7, "C": -48.8, "O": -102.6}
    options = {**config.potential, "species": ["H", "C", "O"], "shifts": shifts}
    potential = build_potential(options, "cg/grouped").set_dtype(torch.float32)
    graphs = make_graphs(read, potential.species, potential.cutoff, torch.float32)
    return Trainer(potential, graphs, graphs[:2], config)


def test_moving_average_is_its_definition(tmp_path):
    """a <- d a + (1 - d) w after every step, d = min(ema_decay, (1 + step)/(10 + step))."""
    this = trainer(tmp_path, max_epochs=4, optimizer={"lr": 0.01, "ema_decay": 0.4})
    expected = [p.detach().double().clone() for p in this.parameters]
    decays = []

    def tick():
        decays.append(min(0.4, this.steps / (9 + this.steps)))
        for mean, weight in zip(expected, this.parameters, strict=True):
            mean.mul_(decays[-1]).add_((1 - decays[-1]) * weight.detach().double())

    assert this.fit(StopRequest(), lambda: None, lambda row: None, tick) == "finished"
    assert decays[0] == 0.1
    assert decays[-1] == 0.4
    for mean, average in zip(expected, this.averaged, strict=True):
        torch.testing.assert_close(average.double(), mean, rtol=1e-5, atol=1e-6)


def test_gradient_that_is_not_finite_stops_before_the_weights(tmp_path):
    this = trainer(tmp_path)
    this.graphs[0].frame.forces[0, 0] = np.inf
    before = [p.detach().clone() for p in this.parameters]
    this.config.batch_size = len(this.graphs)
    with pytest.raises(CheckFailed, match=r"gradient is .* lower optimizer\.lr"):
        this.fit(StopRequest(), lambda: None, lambda row: None)
    assert all(torch.equal(a, b) for a, b in zip(before, this.parameters))


def test_stress_is_learned(tmp_path):
    """A Lennard-Jones crystal of ASE's: with stress in the loss its error falls."""
    rng = np.random.default_rng(0)
    frames = []
    for _ in range(30):
        atoms = bulk("Cu", "fcc", a=3.7, cubic=True)
        strain = np.eye(3) + rng.normal(scale=0.03, size=(3, 3))
        atoms.set_cell(atoms.cell.array @ strain, scale_atoms=True)
        atoms.positions += rng.normal(scale=0.05, size=(4, 3))
        atoms.calc = LennardJones(sigma=2.34, epsilon=0.4, rc=4.0, smooth=True)
        energy, forces = atoms.get_potential_energy(), atoms.get_forces()
        stress = atoms.get_stress(voigt=False)
        atoms.calc = None
        atoms.info = {"REF_energy": energy, "REF_stress": stress.ravel()}
        atoms.arrays["REF_forces"] = forces
        frames.append(atoms)
    labels = np.array([a.info["REF_stress"] for a in frames])
    spread = 1e3 * float(np.sqrt(((labels - labels.mean(axis=0)) ** 2).mean()))
    path = tiny.folder_with(
        tmp_path,
        frames,
        potential={**tiny.settings()["potential"], "cutoff": 4.0},
        baseline={"shifts": "least_squares"},
        loss={"energy": 1.0, "forces": 1.0, "stress": 1000.0},
        optimizer={"lr": 0.02, "ema_decay": 0.9},
        max_epochs=15,
    )
    errors = run(path)["accuracy"]["valid"]["all"]
    assert errors["stress_rmse"] < 0.3 * spread
    assert rows(path)[-1]["valid_stress_rmse"] < 0.3 * rows(path)[0]["valid_stress_rmse"]


def test_budget_in_minutes_ends_the_run(tmp_path):
    path = tiny.folder_with(tmp_path, tiny.methanol(12), max_epochs=10**6, max_minutes=0.01)
    result = run(path)
    assert result["status"] == "finished"
    assert result["minutes"] >= 0.01
    assert (tmp_path / "potential.safetensors").exists()


def test_the_late_energy_weight_does_not_kick_the_weights(tmp_path):
    """Adam's first step with fresh moments is lr, whatever the size of the gradient."""
    loss = {"energy": 0.0, "late_energy": 1e6, "late_from": 0.5}
    rate = {"lr": 0.01, "ema_decay": 0.9, "clip_grad_norm": None}
    schedule = {"name": "constant"}
    this = trainer(tmp_path, max_epochs=4, loss=loss, optimizer=rate, schedule=schedule)
    jumps = {False: [], True: []}
    before = [p.detach().clone() for p in this.parameters]

    def tick():
        now = [p.detach().clone() for p in this.parameters]
        jumps[this.late].append(max(float((a - b).abs().max()) for a, b in zip(now, before)))
        before[:] = now

    this.fit(StopRequest(), lambda: None, lambda row: None, tick)
    assert jumps[False]
    assert jumps[True][0] == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize("interaction", ["cg", "gaunt", "matrix"])
def test_products_between_the_layers_are_trained(interaction, tmp_path):
    """Every weight of theirs moves, and the forces are learned."""
    settings = {**tiny.settings()["potential"], "interaction": interaction}
    this = trainer(tmp_path, max_epochs=15, potential=settings)
    this.calibrate()
    named = dict(this.potential.named_parameters())
    theirs = {k: v.detach().clone() for k, v in named.items() if "interaction" in k}
    assert theirs
    seen = []
    this.fit(StopRequest(), lambda: None, seen.append)
    assert all((named[k] - v).abs().max() > 0 for k, v in theirs.items())
    assert seen[-1]["train_forces"] < 0.2 * seen[0]["train_forces"]
