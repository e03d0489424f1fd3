"""Layers that ask for the same edge basis share one: it is evaluated once a step."""

from __future__ import annotations

import torch


def share_edge_bases(layers: torch.nn.ModuleList) -> tuple[list[torch.nn.Module], list[int]]:
    """One basis per distinct `spec` of the layers' `conv.edge_basis`, and each layer's index."""
    specs: list = []
    bases: list[torch.nn.Module] = []
    index_of_layer: list[int] = []
    for layer in layers:
        basis = layer.conv.edge_basis
        if basis.spec not in specs:
            specs.append(basis.spec)
            bases.append(basis)
        index_of_layer.append(specs.index(basis.spec))
        del layer.conv.edge_basis
    for layer, index in zip(layers, index_of_layer):
        layer.conv.edge_basis = bases[index]
    return bases, index_of_layer
