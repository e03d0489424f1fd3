"""Shared by all tests: one thread, fixed seeds, warnings of torch.jit silenced in pyproject."""

import os
from pathlib import Path

import pytest
import torch


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The published data, outside the repository."""
    root = os.environ.get("TPCALC_DATA") or Path(__file__).parents[2] / "shared" / "data"
    if not Path(root).is_dir():
        pytest.skip(f"published data not found at {root}; set TPCALC_DATA")
    return Path(root)
