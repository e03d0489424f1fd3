"""Fine-tuning: a run that starts from the weights of a trained (or imported) potential."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch

from tpcalc.errors import InputError
from tpcalc.potential import Potential, build_potential
from tpcalc.storage import load_potential, read_manifest
from tpcalc.train.config import BaselineConfig
from tpcalc.train.data import Frame, file_sha256, make_batch, make_graphs
from tpcalc.train.predict import predict
from tpcalc.train.shifts import energy_shifts


def potential_from(
    path: Path,
    variant: str | None,
    frames: list[Frame],
    isolated: dict[str, float],
    baseline: BaselineConfig,
) -> Potential:
    """Architecture, weights and energy scale of `path`, with the shifts of the new labels.

    Args:
        path: NAME.safetensors.
        variant: algorithm that trains; None takes the reference of its function.
        frames: the training set; elements without a frame keep the file's shift.
        isolated: element -> energy (eV) of the new labels.
        baseline: `shifts` says how the zero of energy is moved: "isolated" energies, or the
            "least_squares" fit of what the file's potential leaves over.

    Returns:
        A potential in float32; `.manifest` keeps licence and citation, not the errors and
        certificates of the old weights.

    Raises:
        InputError: a damaged file, an element that the file does not know, missing labels.
    """
    old = load_potential(path)
    present = sorted({symbol for frame in frames for symbol in frame.symbols})
    unknown = [symbol for symbol in present if symbol not in old.species]
    if unknown:
        raise InputError(
            f"the training set contains {', '.join(unknown)}; {path} knows "
            f"{', '.join(old.species)}; start from a potential that has these elements"
        )
    config, shifts = dict(old.config), dict(zip(old.species, old.shifts.tolist()))
    if baseline.shifts == "isolated":
        new = energy_shifts(frames, present, isolated, "isolated")
    else:
        left_over = [_without_interaction(old, frame) for frame in frames]
        new = energy_shifts(left_over, present, isolated, "least_squares")
    config["shifts"] = shifts | dict(zip(present, new))
    potential = build_potential(config, variant)
    tensors = old.state_dict()
    del tensors["shifts"]
    potential.load_state_dict(tensors, strict=False)
    kept = {key: old.manifest[key] for key in ("licence", "citation") if key in old.manifest}
    potential.manifest = kept
    return potential.set_dtype(torch.float32)


def provenance(path: Path) -> dict:
    """What the manifest of the result says about its start: the file, how it was made."""
    manifest = read_manifest(path)
    told = {"file": path.name, "sha256": file_sha256(path)}
    if "imported" in manifest:
        told["imported"] = {k: v for k, v in manifest["imported"].items() if isinstance(v, str)}
    if "training" in manifest:
        training = manifest["training"]
        told |= {key: training[key] for key in ("epochs", "steps", "train_frames", "cpu_minutes")}
        told["train"] = training["config"]["data"]["train"]
    return told


def _without_interaction(potential: Potential, frame: Frame) -> Frame:
    """The frame with only that part of its energy that shifts can explain."""
    if frame.energy is None:
        return frame
    graphs = make_graphs([frame], potential.species, potential.cutoff, potential.dtype)
    energy = float(predict(potential, make_batch(graphs, "cpu")).energy[0].detach())
    index = [potential.species.index(symbol) for symbol in frame.symbols]
    shifts = float(np.sum(potential.shifts.numpy()[index]))
    return dataclasses.replace(frame, energy=frame.energy - (energy - shifts))
