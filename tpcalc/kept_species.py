"""Modules that hold something of each species, and how some of them are kept.

Such a module has `keep_species(index)`, `index` [kept] int64; `Potential.of_species` calls it.
"""

from __future__ import annotations

import torch


def keep_rows(module: torch.nn.Module, index: torch.Tensor, *names: str) -> None:
    """Keep the rows `index` of parameters and buffers of `module`."""
    for name in names:
        tensor = getattr(module, name)
        tensor.data = tensor.data.index_select(0, index)
