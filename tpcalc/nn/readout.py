"""From node scalars to a node energy."""

from __future__ import annotations

import torch

from tpcalc.nn.radial import ScaledLinear


class ScalarReadout(torch.nn.Module):
    """[N, channels] -> [N]; `hidden` > 0 puts one SiLU layer of that width in between."""

    def __init__(self, num_channels: int, hidden: int = 0):
        super().__init__()
        self.layers = torch.nn.ModuleList()
        if hidden > 0:
            self.layers.append(ScaledLinear(num_channels, hidden, silu=True))
        self.layers.append(ScaledLinear(hidden or num_channels, 1, silu=False))

    def forward(self, scalars: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            scalars = layer(scalars)
        return scalars.squeeze(1)
