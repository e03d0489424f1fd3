"""The checkpoint of a run: everything a resumed run needs to go on bit for bit."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from tpcalc.errors import InputError

FORMAT = 1
# may differ between the run and its continuation; all other keys must be the same
MAY_CHANGE = (
    "max_epochs",
    "max_minutes",
    "valid_every",
    "valid_batch_size",
    "threads",
    "output",
    "run_folder",
    "licence",
    "citation",
)


def save_checkpoint(path: Path, state: dict) -> None:
    """Write whole or not at all: a temporary file, then a rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".part")
    torch.save({"format": FORMAT, **state}, temporary)
    os.replace(temporary, path)


def load_checkpoint(path: Path) -> dict:
    """Read a checkpoint; nothing in it is executed.

    Raises:
        InputError: absent, damaged, or of another format.
    """
    if not path.is_file():
        raise InputError(f"no checkpoint at {str(path)!r}; run without --resume to start")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds on a damaged file
        raise InputError(
            f"{path} is not a readable checkpoint ({type(error).__name__}); start without --resume"
        ) from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise InputError(f"{path} is not a checkpoint of format {FORMAT}; start without --resume")
    return state


def check_same_run(old: dict, new: dict, prefix: str = "") -> None:
    """Refuse to continue a run under another config, naming the first key that differs."""
    for key in [*new, *(k for k in old if k not in new)]:
        name = prefix + key
        if name in MAY_CHANGE:
            continue
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            check_same_run(before, after, name + ".")
        elif before != after:
            raise InputError(
                f"the checkpoint was made with {name} = {before!r}, the config says {after!r}; "
                "restore it, or start without --resume"
            )
