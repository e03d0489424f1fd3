"""Energy, forces and stress of a batch, differentiable when training."""

from __future__ import annotations

from typing import NamedTuple

import torch

from tpcalc.potential import energy_and_edge_gradient, forces_from_edges
from tpcalc.train.data import Batch


class Prediction(NamedTuple):
    """Per structure and per atom."""

    energy: torch.Tensor  # [B] float64, eV
    forces: torch.Tensor  # [n, 3] eV/Å
    stress: torch.Tensor | None  # [B, 3, 3] eV/Å³; NaN without three periodic directions


def predict(
    potential: torch.nn.Module, batch: Batch, training: bool = False, wants_stress: bool = False
) -> Prediction:
    """Evaluate `potential` on a batch.

    Stress needs no strain variable: it follows from the gradient on the edges,
    stress = sum r (x) dE/dr / V.
    """
    n = batch.species.shape[0]
    node_energy, gradient = energy_and_edge_gradient(
        potential, batch.species, batch.edge_index, batch.edge_vectors, n, create_graph=training
    )
    count = batch.num_atoms.shape[0]
    energy = node_energy.new_zeros(count).index_add(0, batch.graph_index, node_energy)
    forces = forces_from_edges(gradient, batch.edge_index, n)
    if not wants_stress:
        return Prediction(energy, forces, None)
    outer = batch.edge_vectors.detach()[:, :, None] * gradient[:, None, :]  # [E, 3, 3]
    edge_graph = batch.graph_index.index_select(0, batch.edge_index[0])
    total = outer.new_zeros(count, 3, 3).index_add(0, edge_graph, outer)
    volume = batch.volume[:, None, None]
    # NaN enters after the division, or it would come back through the gradient
    stress = total / torch.nan_to_num(volume, nan=1.0)
    return Prediction(energy, forces, stress.masked_fill(volume.isnan(), torch.nan))
