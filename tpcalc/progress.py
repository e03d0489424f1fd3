"""Progress bars: only when somebody is watching, and only for what takes a while."""

from __future__ import annotations

import sys

from tqdm import tqdm


def progress(total: int, description: str, unit: str = "step") -> tqdm:
    """A bar on stderr after two seconds if stdout is a terminal, else nothing."""
    return tqdm(
        total=total, desc=description, unit=unit, delay=2, leave=False,
        disable=not sys.stdout.isatty(),
    )  # fmt: skip
