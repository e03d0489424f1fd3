"""Devices by name, refused in a sentence where torch cannot run on them."""

from __future__ import annotations

import torch

from tpcalc.errors import InputError


def as_device(device) -> torch.device:
    """A torch device that is there.

    Raises:
        InputError: no such name, or a GPU that this torch does not see.
    """
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise InputError(f"device {device!r} is not one: cpu, cuda, cuda:1, ...") from error
    if found.type != "cuda":
        return found
    if not torch.cuda.is_available():
        why = (
            "torch sees no GPU" if torch.backends.cuda.is_built()
            else f"torch {torch.__version__} is built without CUDA (pip install torch with CUDA)"
        )  # fmt: skip
        raise InputError(f"device {str(device)!r} cannot be used: {why}; take device='cpu'")
    if (found.index or 0) >= torch.cuda.device_count():
        raise InputError(f"device {str(device)!r}: there are {torch.cuda.device_count()} GPUs")
    return found
