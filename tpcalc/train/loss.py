"""Weighted losses of energy per atom, forces and stress; missing labels carry no weight."""

from __future__ import annotations

import torch

from tpcalc.train.config import LossConfig
from tpcalc.train.data import Batch
from tpcalc.train.predict import Prediction


def loss_terms(prediction: Prediction, batch: Batch, config: LossConfig) -> dict[str, torch.Tensor]:
    """Unweighted mean loss of each labelled quantity with a weight, as scalars.

    energy in (eV/atom)², forces in (eV/Å)² per component, stress in (eV/Å³)² per component
    (Huber: the same units, linear beyond `huber_delta`). A quantity no frame of the batch is
    labelled with is left out.
    """
    terms = {}
    if config.energy and batch.has_energy.any():
        error = (prediction.energy - batch.energy) / batch.num_atoms  # [B] float64
        terms["energy"] = _mean(error[batch.has_energy], config)
    if config.forces and batch.has_forces.any():
        error = prediction.forces - batch.forces  # [n, 3]
        if not batch.has_forces.all():
            error = error[batch.has_forces[batch.graph_index]]
        terms["forces"] = _mean(error, config)
    if config.stress and batch.has_stress.any():
        error = prediction.stress - batch.stress  # [B, 3, 3]
        terms["stress"] = _mean(error[batch.has_stress], config)
    return terms


def weighted_sum(terms: dict[str, torch.Tensor], config: LossConfig) -> torch.Tensor:
    """The loss that is minimised: sum of weight * term."""
    return sum(getattr(config, name) * value for name, value in terms.items())


def _mean(error: torch.Tensor, config: LossConfig) -> torch.Tensor:
    if config.kind == "mse":
        return error.square().mean()
    zero = torch.zeros_like(error)
    return torch.nn.functional.huber_loss(error, zero, delta=config.huber_delta)
