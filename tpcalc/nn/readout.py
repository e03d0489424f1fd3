"""From node scalars to a node energy."""

from __future__ import annotations

import torch

from tpcalc.nn.radial import SILU_NORM, ScaledLinear


class ScalarReadout(torch.nn.Module):
    """[N, channels] -> [N]; `hidden` > 0 puts one SiLU layer of that width in between.

    `as_op`: as one compiled op (`tpcalc.kernels.ops.use_ops`).
    """

    __constants__ = ["as_op"]  # TorchScript drops branches not taken

    def __init__(self, num_channels: int, hidden: int = 0):
        super().__init__()
        self.as_op, self.silu_norm = False, SILU_NORM
        self.layers = torch.nn.ModuleList()
        if hidden > 0:
            self.layers.append(ScaledLinear(num_channels, hidden, silu=True))
        self.layers.append(ScaledLinear(hidden or num_channels, 1, silu=False))

    def forward(self, scalars: torch.Tensor) -> torch.Tensor:
        if self.as_op:  # noqa: SIM102
            if not scalars.is_cuda:
                weights: list[torch.Tensor] = []
                for layer in self.layers:
                    weights.append(layer.weight)
                return torch.ops.tpcalc.mlp(scalars, weights, self.silu_norm).squeeze(1)
        for layer in self.layers:
            scalars = layer(scalars)
        return scalars.squeeze(1)
