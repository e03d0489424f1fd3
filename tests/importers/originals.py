"""The Pythons that hold the original packages, named by `make test-import`."""

import os

import pytest
from tpcalc.importers.foreign import PACKAGES


def original_python(kind: str) -> str:
    """The interpreter of one of `PACKAGES`; the test is skipped where none is named."""
    name = f"TPCALC_PYTHON_{kind.upper()}"
    if not os.environ.get(name):
        pytest.skip(f"set {name} to a Python that has {PACKAGES[kind]}")
    return os.environ[name]
