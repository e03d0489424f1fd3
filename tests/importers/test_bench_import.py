"""`tpcalc bench import`: an original in a process of its own, timed in turn with ours."""

import json
import sys

import numpy as np
import pytest
from tests.importers.test_import_nequix import write_small
from tpcalc.bench.workloads import silicon
from tpcalc.cli import main
from tpcalc.errors import MissingDependency
from tpcalc.importers.original_process import OriginalProcess
from tpcalc.importers.run import import_model

LENNARD_JONES = """
from ase.calculators.lj import LennardJones as Symmetrix_

def Symmetrix(path, dtype, head, **form):
    print("a package that prints")
    if not form:
        raise RuntimeError("no compiler for " + path)
    return Symmetrix_(sigma=2.0, epsilon=0.01, rc=5.0)
"""


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("imported")
    output = folder / "small.safetensors"
    import_model(write_small(folder / "small.nqx"), "nequix", output)
    return output


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A Python whose symmetrix is ASE's Lennard-Jones."""
    (tmp_path / "symmetrix.py").write_text(LENNARD_JONES)
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={tmp_path} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    return python


def test_both_compute_the_same_and_are_timed(imported, capsys):
    command = ["bench", "import", str(imported), "--against", "e3nn", "--system", "water:2",
               "--variant", "cg/sparse", "--dtype", "float64", "--repeats", "2"]  # fmt: skip
    for memory in ("--retain", "--plain"):
        assert main([*command, memory, "--json"]) == 0
        result = json.loads(capsys.readouterr().out)
        assert result["retained_memory"] is (memory == "--retain")
        assert result["difference"]["forces"] < 1e-10
        assert [row["package"] for row in result["rows"]] == ["e3nn", "tpcalc"]
        for row in result["rows"]:
            assert row["calls"] == 2
            assert row["ms"] > 0
            assert row["peak_MB"] > 10


def test_the_process_answers_with_the_originals_forces(package):
    from ase.calculators.lj import LennardJones

    atoms = silicon(1)
    expected = atoms.copy()
    expected.calc = LennardJones(sigma=2.0, epsilon=0.01, rc=5.0)
    with OriginalProcess("x.json", "symmetrix", atoms, package, form="serial") as original:
        for shift in (0.0, 0.1):
            expected.positions[0, 0] += shift
            result = original(expected.positions)
            assert result["energy"] == pytest.approx(expected.get_potential_energy(), rel=1e-14)
            assert np.allclose(result["forces"], expected.get_forces(), rtol=0, atol=1e-13)


def test_what_ended_the_original_is_told(package):
    with (
        OriginalProcess("x.json", "symmetrix", silicon(1), package, form="direct") as original,
        pytest.raises(MissingDependency, match=r"symmetrix: .*no compiler for x\.json"),
    ):
        original(silicon(1).positions)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--against", "nequix"], "--against e3nn"),
        (["--against", "symetrix"], "did you mean 'symmetrix'"),
        (["--against", "mace"], "add --trust"),
        (["--against", "mace", "--form", "serial", "--trust"], "is for symmetrix, not mace"),
        (["--against", "mace", "--python", sys.executable, "--trust", "--original", "no.model"],
         "no original at no.model"),
        (["--against", "symmetrix", "--python", sys.executable, "--form", "jit", "--trust"],
         "form of symmetrix 'jit'"),
        (["--against", "e3nn", "--repeats", "0"], "repeats 0; at least 1"),
        (["--against", "e3nn", "--radial", "table"], "kind of radial functions"),
    ],
)  # fmt: skip
def test_wrong_requests_are_named(imported, arguments, text, capsys):
    command = ["bench", "import", str(imported), "--system", "silicon:1", "--variant", "cg/fused"]
    assert main([*command, *arguments]) == 2
    assert text in capsys.readouterr().err
