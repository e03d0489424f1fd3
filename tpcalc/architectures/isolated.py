"""Energies of isolated atoms, made once while the weights stay."""

from __future__ import annotations

import torch


class IsolatedAtoms(torch.nn.Module):
    """A network whose `_isolated()` is a function of its weights alone.

    In eager mode the result is kept for these very weights. Nothing is remembered while weights
    take gradients. A weight that was replaced or written to counts as another one (writing
    through `.data` hides from torch and from this). TorchScript folds it when it freezes.
    """

    def isolated(self) -> torch.Tensor:
        """`_isolated`, in eager mode made once while the weights stay."""
        return self._isolated() if torch.jit.is_scripting() else self._remembered()

    @torch.jit.unused
    def _remembered(self) -> torch.Tensor:
        weights = list(self.parameters())
        if any(w.requires_grad for w in weights):
            return self._isolated()
        key = [(w.data_ptr(), w.dtype, w._version) for w in weights]
        if self.__dict__.get("_remembered_key") != key:
            self.__dict__["_remembered_value"] = self._isolated()
            self.__dict__["_remembered_key"] = key
        return self.__dict__["_remembered_value"]
