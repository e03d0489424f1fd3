"""`train(config)`: data, potential, loop, table of errors, potential file."""

from __future__ import annotations

import json
import math
import os
import platform
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

import tpcalc
from tpcalc.errors import InputError
from tpcalc.potential import Potential, build_potential
from tpcalc.storage import save_potential
from tpcalc.train.checkpoint import check_same_run, load_checkpoint, save_checkpoint
from tpcalc.train.config import TrainConfig, config_to_dict
from tpcalc.train.data import (
    Frame,
    GraphData,
    file_sha256,
    find_data,
    make_graphs,
    read_frames,
    species_of,
    split_isolated,
)
from tpcalc.train.evaluate import evaluate_graphs
from tpcalc.train.loop import StopRequest, Trainer
from tpcalc.train.shifts import energy_scale, energy_shifts, isolated_energies
from tpcalc.train.start import potential_from, provenance


@dataclass
class Dataset:
    """Frames of a run and the files they came from."""

    train: list[Frame]
    valid: list[Frame]
    test: dict[str, list[Frame]]  # file name without suffix -> frames
    isolated: dict[str, float]  # eV
    sha256: dict[str, str]


def train(
    config: TrainConfig,
    folder: str | Path = ".",
    resume: bool = False,
    log: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True),
) -> dict:
    """Train a potential and write `config.output`.

    Args:
        config: from `load_config`.
        folder: where relative outputs and data are looked for (the folder of the YAML file).
        resume: continue from the checkpoint in `config.run_folder`.
        log: receives lines of progress.

    Returns:
        {"status": "finished" | "stopped", "output", "checkpoint", "signal", "epochs", "steps",
        "minutes", "best_epoch", "accuracy"}.

    Raises:
        InputError: anything wrong with config, data, checkpoint; a run that exists and no
            `resume`.
    """
    folder = Path(folder)
    checkpoint = folder / config.run_folder / "checkpoint.pt"
    if checkpoint.exists() and not resume:
        raise InputError(
            f"{checkpoint} holds a run already; add --resume to continue it, or remove "
            f"{checkpoint.parent} to start again"
        )
    state = load_checkpoint(checkpoint) if resume else None
    (folder / config.output).parent.mkdir(parents=True, exist_ok=True)
    with _torch_settings(config):
        data = load_dataset(config, folder)
        if state is not None:
            check_same_run(state["config"], config_to_dict(config))
            check_same_run(state["data_sha256"], data.sha256, "sha256 of ")
        start = None if config.start_from is None else find_data(config.start_from, folder)
        potential = (
            _new_potential(config, data)
            if start is None
            else potential_from(
                start, config.train_variant, data.train, data.isolated, config.baseline
            ).to(config.device)
        )
        graphs = make_graphs(data.train, potential.species, potential.cutoff, potential.dtype)
        valid = make_graphs(data.valid, potential.species, potential.cutoff, potential.dtype)
        trainer = Trainer(potential, graphs, valid, config)
        if state is not None:
            trainer.load(state)
        elif config.calibrate and start is None:
            trainer.calibrate()
        log(_headline(potential, graphs, valid))
        status, signal = _fit(trainer, checkpoint, data, log)
        result = {
            "status": status,
            "signal": signal,
            "checkpoint": str(checkpoint),
            "output": None,
            "epochs": trainer.epoch,
            "steps": trainer.steps,
            "minutes": trainer.elapsed / 60.0,
            "best_epoch": trainer.best_epoch,
        }
        if status == "stopped":
            return result
        output = Path(os.path.normpath(folder / config.output))
        told = {} if start is None else {"started_from": provenance(start)}
        return result | _finish(trainer, valid, data, output, told)


def load_dataset(config: TrainConfig, folder: Path) -> Dataset:
    """Read all files of `config.data`; isolated atoms are taken out of the training set."""
    keys = config.data
    paths = {"train": find_data(keys.train, folder)}
    need = [name for name in ("energy", "forces", "stress") if getattr(config.loss, name) > 0]
    train_frames, isolated = split_isolated(read_frames(paths["train"], keys, tuple(need)))
    if not train_frames:
        raise InputError(f"{paths['train']} holds only isolated atoms")
    if keys.isolated_atoms:
        paths["isolated_atoms"] = find_data(keys.isolated_atoms, folder)
        isolated += read_frames(paths["isolated_atoms"], keys, need=("energy",))
    if keys.valid:
        paths["valid"] = find_data(keys.valid, folder)
        valid = split_isolated(read_frames(paths["valid"], keys))[0]
    else:
        valid = train_frames[9::10]
        train_frames = [frame for i, frame in enumerate(train_frames) if i % 10 != 9]
    if not valid:
        raise InputError("the validation set is empty; data.train needs at least 10 frames for it")
    test = {}
    for name in keys.test:
        path = find_data(name, folder)
        paths[f"test {path.stem}"] = path
        test[path.stem] = split_isolated(read_frames(path, keys))[0]
    sha256 = {path.name: file_sha256(path) for path in paths.values()}
    return Dataset(train_frames, valid, test, isolated_energies(isolated), sha256)


def _new_potential(config: TrainConfig, data: Dataset) -> Potential:
    """Random weights from the seed; baseline and number of neighbours from the training set."""
    options = dict(config.potential)
    if "cutoff" not in options:
        raise InputError("the config's group 'potential' lacks 'cutoff' (Å)")
    frames = data.train + data.valid + [f for frames in data.test.values() for f in frames]
    species = options.setdefault("species", species_of(frames))
    if "shifts" not in options:
        shifts = energy_shifts(data.train, species, data.isolated, config.baseline.shifts)
        options["shifts"] = dict(zip(species, shifts))
    if "scale" not in options:
        shifts = [options["shifts"].get(name, 0.0) for name in species]
        options["scale"] = energy_scale(data.train, species, shifts, config.baseline)
    if "avg_num_neighbors" not in options:
        sample = make_graphs(data.train[:200], species, options["cutoff"], torch.float32)
        edges = sum(graph.edge_index.shape[1] for graph in sample)
        options["avg_num_neighbors"] = edges / sum(len(graph.species) for graph in sample)
    torch.manual_seed(config.seed)
    potential = build_potential(options, config.train_variant)
    return potential.set_dtype(torch.float32).to(config.device)


@contextmanager
def _torch_settings(config: TrainConfig):
    """Threads and random state of torch for the run, put back afterwards."""
    threads = torch.get_num_threads()
    torch.set_num_threads(config.threads or threads)
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.set_num_threads(threads)


def _headline(potential: Potential, graphs: list[GraphData], valid: list[GraphData]) -> str:
    weights = sum(p.numel() for p in potential.parameters() if p.requires_grad)
    edges = sum(graph.edge_index.shape[1] for graph in graphs)
    return (
        f"{potential.variant}: {weights} weights, {len(graphs)} training and {len(valid)} "
        f"validation frames, {edges / len(graphs):.0f} edges a frame, "
        f"{torch.get_num_threads()} threads"
    )


def _fit(trainer: Trainer, checkpoint: Path, data: Dataset, log) -> tuple[str, int | None]:
    config, stop = trainer.config, StopRequest()
    total = config.max_epochs * trainer.steps_per_epoch
    bar = tqdm(
        total=total, initial=trainer.steps, unit="step", disable=not sys.stderr.isatty(),
        leave=False,
    )  # fmt: skip

    def save() -> None:
        state = {"config": config_to_dict(config), "data_sha256": data.sha256}
        save_checkpoint(checkpoint, state | trainer.state())

    def report(row: dict) -> None:
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        with open(checkpoint.with_name("log.jsonl"), "a") as file:
            file.write(json.dumps(row) + "\n")
        bar.clear()
        log(_progress_line(row))

    with bar, stop.listening():
        status = trainer.fit(stop, save, report, lambda: bar.update(1))
    return status, stop.signal


def _progress_line(row: dict) -> str:
    parts = [f"epoch {row['epoch']}", f"{row['minutes']:.1f} min", f"lr {row['lr']:.1e}"]
    for name, title, unit in (
        ("energy_per_atom", "E", "meV/atom"),
        ("forces", "F", "meV/Å"),
        ("stress", "S", "meV/Å³"),
    ):
        value = row.get(f"valid_{name}_rmse")
        if value is not None:
            parts.append(f"{title} {value:.2f} {unit}")
    best = " *" if row["best_epoch"] == row["epoch"] else ""
    return "  ".join(parts) + best


def _finish(
    trainer: Trainer, valid: list[GraphData], data: Dataset, output: Path, told: dict
) -> dict:
    """Best weights, errors on validation and test sets, and the file; `told`: more provenance."""
    config, potential = trainer.config, trainer.average
    potential.load_state_dict(trainer.best)
    accuracy = {"valid": evaluate_graphs(potential, valid, config.valid_batch_size)}
    for name, frames in data.test.items():
        graphs = make_graphs(frames, potential.species, potential.cutoff, potential.dtype)
        accuracy[name] = evaluate_graphs(potential, graphs, config.valid_batch_size)
    manifest = {
        "training": {
            "config": config_to_dict(config),
            **told,
            "seed": config.seed,
            "train_frames": len(data.train),
            "valid_frames": len(data.valid),
            "epochs": trainer.epoch,
            "best_epoch": trainer.best_epoch,
            "steps": trainer.steps,
            "minutes": round(trainer.elapsed / 60.0, 2),
            "cpu_minutes": None if math.isnan(trainer.cpu) else round(trainer.cpu / 60.0, 2),
            "variant": potential.variant,
            "threads": torch.get_num_threads(),
            "machine": platform.machine(),
            "date": time.strftime("%Y-%m-%d"),
            "versions": {
                "tpcalc": tpcalc.__version__,
                "torch": torch.__version__,
                "numpy": np.__version__,
                "python": platform.python_version(),
            },
        },
        "data_sha256": data.sha256,
        "accuracy": accuracy,
        "created_with": f"tpcalc {tpcalc.__version__}",
    }
    for key in ("licence", "citation"):
        if getattr(config, key) is not None:
            manifest[key] = getattr(config, key)
    save_potential(potential, output, manifest)
    return {"output": str(output), "accuracy": accuracy}
