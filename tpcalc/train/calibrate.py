"""Scale random weights so that signals start at unit size; nothing else of a model changes.

A radial network sees small inputs (Bessel functions under a cutoff), and functions with
factored weights multiply three of its outputs: untouched, messages start at 1e-1 (cg) or 1e-3
(gaunt) of the self-connection and learn slowly. Layer-sequential unit variance: Mishkin and
Matas 2016, arXiv:1511.06422.
"""

from __future__ import annotations

import math
from contextlib import contextmanager

import torch

from tpcalc.train.data import Batch


@torch.no_grad()
def calibrate(potential: torch.nn.Module, batch: Batch) -> None:
    """Rescale the radial networks of a new potential in place.

    Inner layers are scaled to unit pre-activations, the last one so that the messages of each
    convolution have unit root mean square on `batch`, layer after layer.
    """

    def measure(module: torch.nn.Module) -> float:
        with _recorded(module) as outputs:
            n = batch.species.shape[0]
            potential(batch.species, batch.edge_index, batch.edge_vectors, n)
        return float(outputs[0].double().square().mean().sqrt())

    for layer in potential.model.layers:
        *inner, last = layer.radial.layers
        for linear in inner:
            _scale(linear, 1.0 / _recorded_before_activation(linear, measure))
        # messages grow with some power of the weights (1, or 3 where weights are factored)
        before = measure(layer.linear_down)
        _scale(last, 2.0)
        power = math.log2(measure(layer.linear_down) / before)
        _scale(last, 0.5 * before ** (-1.0 / power))


def _scale(linear: torch.nn.Module, factor: float) -> None:
    linear.weight *= factor


def _recorded_before_activation(linear: torch.nn.Module, measure) -> float:
    """Root mean square of x W / sqrt(fan-in), with the activation taken off for the moment."""
    had, linear.silu = linear.silu, False
    try:
        return measure(linear)
    finally:
        linear.silu = had


@contextmanager
def _recorded(module: torch.nn.Module):
    """Outputs of `module` while the context lasts, without what a `Linear` was told to add."""
    outputs: list[torch.Tensor] = []

    def keep(_, arguments, output):
        outputs.append(output - arguments[2] if len(arguments) == 3 else output)

    handle = module.register_forward_hook(keep)
    try:
        yield outputs
    finally:
        handle.remove()
