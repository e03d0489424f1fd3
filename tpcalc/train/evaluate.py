"""Errors of a potential on labelled structures, by `config_type`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch

from tpcalc.errors import InputError
from tpcalc.train.config import DataConfig
from tpcalc.train.data import Batch, GraphData, make_batch, make_graphs, read_frames
from tpcalc.train.predict import Prediction, predict

# quantity -> (unit, factor from eV and Å)
UNITS = {
    "energy_per_atom": ("meV/atom", 1e3),
    "energy": ("meV", 1e3),
    "forces": ("meV/Å", 1e3),
    "stress": ("meV/Å³", 1e3),
}


class _Sums:
    """Running sums of |error| and error² of each quantity."""

    def __init__(self) -> None:
        self.frames = 0
        self.sums = {name: [0, 0.0, 0.0] for name in UNITS}

    def add(self, name: str, error: torch.Tensor) -> None:
        error = error.double() * UNITS[name][1]
        sums = self.sums[name]
        sums[0] += error.numel()
        sums[1] += float(error.abs().sum())
        sums[2] += float(error.square().sum())

    def result(self) -> dict[str, Any]:
        out: dict[str, Any] = {"frames": self.frames}
        for name, (count, absolute, square) in self.sums.items():
            if count:
                out[f"{name}_mae"] = absolute / count
                out[f"{name}_rmse"] = math.sqrt(square / count)
        return out


def errors_on_batches(
    potential: torch.nn.Module, batches: list[Batch], groups: list[list[str]] | None = None
) -> dict[str, dict[str, Any]]:
    """MAE and RMSE in the units of `UNITS`, over all frames ("all") and per group.

    Args:
        potential: evaluated in the dtype of the batches.
        batches: from `make_batch`.
        groups: a name for every frame of every batch; None makes "all" only.

    Returns:
        name -> {frames, energy_per_atom_mae, ..., forces_rmse, ...}; quantities without labels
        are absent.
    """
    sums = {"all": _Sums()}
    for i, batch in enumerate(batches):
        wants_stress = bool(batch.has_stress.any())
        prediction = predict(potential, batch, wants_stress=wants_stress)
        names = groups[i] if groups else ["all"] * batch.num_atoms.shape[0]
        for frame, name in enumerate(names):
            for target in dict.fromkeys(("all", name)):
                _add_frame(sums.setdefault(target, _Sums()), prediction, batch, frame)
    return {name: value.result() for name, value in sums.items()}


def _add_frame(sums: _Sums, prediction: Prediction, batch: Batch, frame: int) -> None:
    sums.frames += 1
    if batch.has_energy[frame]:
        error = (prediction.energy[frame] - batch.energy[frame]).detach()
        sums.add("energy", error)
        sums.add("energy_per_atom", error / batch.num_atoms[frame])
    if batch.has_forces[frame]:
        atoms = batch.graph_index == frame
        sums.add("forces", prediction.forces[atoms] - batch.forces[atoms])
    if batch.has_stress[frame]:
        sums.add("stress", prediction.stress[frame] - batch.stress[frame])


def evaluate_graphs(
    potential: torch.nn.Module, graphs: list[GraphData], batch_size: int = 25, device: str = "cpu"
) -> dict[str, dict[str, Any]]:
    """`errors_on_batches` per `config_type`; "all" comes last, and only if there are several."""
    parts = [graphs[i : i + batch_size] for i in range(0, len(graphs), batch_size)]
    batches = [make_batch(part, device) for part in parts]
    groups = [[graph.frame.config_type for graph in part] for part in parts]
    table = errors_on_batches(potential, batches, groups)
    total = table.pop("all")
    if len(table) != 1:
        table["all"] = total
    return table


def overall(table: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The row of all frames in a result of `evaluate_graphs`: "all", or the only one."""
    return table["all"] if "all" in table else next(iter(table.values()))


def evaluate_file(
    potential: torch.nn.Module,
    path: str | Path,
    keys: DataConfig,
    batch_size: int = 25,
    device: str = "cpu",
) -> dict[str, dict[str, Any]]:
    """Errors of `potential` on an extended XYZ file, per `config_type`.

    Raises:
        InputError: no label in the file, an element the potential does not know.
    """
    frames = read_frames(path, keys)
    if all(f.energy is None and f.forces is None and f.stress is None for f in frames):
        read_frames(path, keys, need=("energy",))  # raises, naming the keys found
        raise InputError(f"{path} holds no label")
    graphs = make_graphs(frames, potential.species, potential.cutoff, potential.dtype)
    return evaluate_graphs(potential, graphs, batch_size, device)


def format_table(table: dict[str, dict[str, Any]]) -> str:
    """Plain-text table: a row per name, MAE and RMSE of each quantity that was labelled."""
    shown = [q for q in UNITS if any(f"{q}_rmse" in row for row in table.values())]
    titles = {
        "energy_per_atom": "E/atom",
        "energy": "E",
        "forces": "F",
        "stress": "stress",
    }
    header = ["", "frames"]
    for quantity in shown:
        unit = UNITS[quantity][0]
        header += [f"{titles[quantity]} MAE {unit}", f"{titles[quantity]} RMSE {unit}"]
    rows = [header]
    for name, row in table.items():
        cells = [name, str(row["frames"])]
        for quantity in shown:
            for kind in ("mae", "rmse"):
                value = row.get(f"{quantity}_{kind}")
                cells.append("-" if value is None else f"{value:.2f}")
        rows.append(cells)
    widths = [max(len(row[i]) for row in rows) for i in range(len(header))]
    lines = []
    for row in rows:
        first, *rest = (cell for cell in row)
        cells = [f"{first:<{widths[0]}}"] + [f"{c:>{w}}" for c, w in zip(rest, widths[1:])]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
