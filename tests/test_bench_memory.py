"""`tpcalc bench memory`: finds memory of known size, and runs each size in a process of its own."""

import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
from tests.small import random_potential
from tpcalc.bench.memory import _fits, bench_memory, measure, systems_of
from tpcalc.bench.workloads import water_box
from tpcalc.cli import main
from tpcalc.errors import CheckFailed, InputError
from tpcalc.graph import NeighborList
from tpcalc.storage import save_potential


class Known:
    """A calculator whose step takes 64 MB, and whose list search is a real one."""

    num_edges = 10

    def __init__(self):
        self.neighbors = NeighborList(3.0)
        self.evaluators = [self]

    def calculate(self, atoms):
        taken = np.ones(8_000_000)
        taken += 1


def measure_known() -> dict:
    return measure(Known(), water_box(8))


def test_memory_of_known_size_is_found():
    """In a process of its own, as the command's: holes that other tests left would be filled."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        row = pool.submit(measure_known).result()
    assert 63.9 < row["peak_MB"] < 72
    assert row["kB_per_atom"] == pytest.approx(row["peak_MB"] * 1e3 / 24)


def test_bytes_of_the_list_are_those_of_its_arrays():
    neighbors, atoms = NeighborList(3.0, 0.5), water_box(8)
    assert neighbors.nbytes == 0
    neighbors.update(atoms.positions, atoms.cell.array, atoms.pbc)
    edges = neighbors._candidates.num_edges
    assert neighbors.nbytes == edges * (2 * 8 + 3 * 3 * 8) + 24 * 24


def test_each_run_is_a_process_of_its_own(tmp_path, capsys):
    file = save_potential(random_potential(), tmp_path / "cg.safetensors")
    arguments = ["--system", "water:8", "--variants", "cg/sparse", "--json"]
    assert main(["bench", "memory", str(file), *arguments]) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert row["variant_class"] == "CgSparse"
    assert row["atoms"] == 24
    # what any step must hold: features of the edges that its layers multiply, in float32
    assert row["peak_MB"] * 1e6 > row["edges"] * 4 * (4 * 9 + 9)
    assert row["list_held_MB"] < row["peak_MB"]


def test_death_of_a_process_is_told(tmp_path):
    file = save_potential(random_potential(), tmp_path / "cg.safetensors")
    with pytest.raises(CheckFailed, match=r"cg/sparse on water:8 ended with 1: .*unknown mode"):
        bench_memory(file, ["water:8"], ["cg/sparse"], mode="eagr")


def test_line_through_peaks():
    rows = [{"variant": "a", "atoms": n, "peak_MB": 5 + 0.02 * n} for n in (100, 200, 400)]
    (fit,) = _fits(rows + [{"variant": "b", "atoms": 1, "peak_MB": 2.0}])
    assert fit["kB_per_atom"] == pytest.approx(20)
    assert fit["fixed_MB"] == pytest.approx(5)
    assert fit["off_percent"] < 1e-9
    rows[1]["peak_MB"] += 3
    assert _fits(rows)[0]["off_percent"] > 10


def test_systems_by_their_sizes():
    assert systems_of("water:8,64") == ["water:8", "water:64"]
    assert systems_of("3bpa") == ["3bpa"]
    with pytest.raises(InputError, match="did you mean 'water'"):
        systems_of("watr:8,64")
    with pytest.raises(InputError, match="'8,x' is not a comma list"):
        systems_of("water:8,x")
