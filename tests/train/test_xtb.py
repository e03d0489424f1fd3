"""Our own training set: what is shipped is what GFN2-xTB says, and its command works."""

import sys

import ase.io
import numpy as np
import pytest
from ase import Atoms
from tests.train import tiny
from tpcalc.errors import InputError, MissingDependency
from tpcalc.train import xtb


def test_shipped_set():
    frames = ase.io.read(tiny.DATA, ":")
    isolated, rest = frames[:4], frames[4:]
    assert all(len(f) == 1 for f in isolated)
    assert len(rest) == 200
    kinds = [f.info["config_type"] for f in rest]
    assert {kind: kinds.count(kind) for kind in kinds} == dict.fromkeys(
        [f"{name}_{t}K" for name in xtb.MOLECULES for t in xtb.TEMPERATURES], 25
    )
    assert tiny.DATA.stat().st_size < 200_000
    for atoms in rest:
        # xTB knows no outside: forces cancel, up to the last digit written
        assert np.abs(atoms.arrays["REF_forces"].sum(axis=0)).max() < 1e-4


def test_labels_are_those_of_gfn2_xtb():
    pytest.importorskip("tblite", reason="pip install 'tpcalc[labels]'")
    for atoms in ase.io.read(tiny.DATA, "0:100:30"):
        bare = Atoms(atoms.symbols, atoms.positions, calculator=xtb.calculator())
        assert bare.get_potential_energy() == pytest.approx(atoms.info["REF_energy"], abs=2e-5)
        np.testing.assert_allclose(bare.get_forces(), atoms.arrays["REF_forces"], atol=2e-4)


def test_command(tmp_path, monkeypatch, capsys):
    """A short version of the command that made the set, twice: the same bytes."""
    pytest.importorskip("tblite", reason="pip install 'tpcalc[labels]'")
    monkeypatch.setattr(xtb, "FIRST", 2)
    monkeypatch.setattr(xtb, "EVERY", 1)
    monkeypatch.setattr(xtb, "MOLECULES", {"methanol": "CH3OH"})
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    texts = []
    for seed in ("1", "1", "2"):
        monkeypatch.setattr(
            sys, "argv", ["xtb", str(tmp_path / "a.xyz"), "--frames=4", "--seed", seed]
        )
        xtb.main()
        texts.append((tmp_path / "a.xyz").read_text())
    assert "7 structures written" in capsys.readouterr().out
    assert texts[0] == texts[1] != texts[2]
    assert len(ase.io.read(tmp_path / "a.xyz", ":")) == 7


def test_own_structures_are_labelled(tmp_path, monkeypatch, capsys):
    """The frames of a file, in order, with the shipped set's energies; no crystals."""
    pytest.importorskip("tblite", reason="pip install 'tpcalc[labels]'")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    known = ase.io.read(tiny.DATA, "4:6")
    bare = [Atoms(a.symbols, a.positions + [1.0, 2.0, 3.0]) for a in known]
    ase.io.write(tmp_path / "md.xyz", bare)
    out = tmp_path / "a.xyz"
    monkeypatch.setattr(sys, "argv", ["xtb", str(out), "--structures", str(tmp_path / "md.xyz")])
    xtb.main()
    frames = ase.io.read(out, ":")
    assert [f.info["config_type"] for f in frames[-2:]] == ["md", "md"]
    assert all(len(f) == 1 for f in frames[:-2])
    for new, old in zip(frames[-2:], known):
        assert new.info["REF_energy"] == pytest.approx(old.info["REF_energy"], abs=2e-5)
        np.testing.assert_allclose(new.arrays["REF_forces"], old.arrays["REF_forces"], atol=2e-3)
    ase.io.write(tmp_path / "md.xyz", Atoms("H", cell=[9, 9, 9], pbc=True))
    with pytest.raises(SystemExit) as stop:
        xtb.main()
    assert stop.value.code == 2
    assert "periodic" in capsys.readouterr().err


def test_what_cannot_be_made(tmp_path, monkeypatch, capsys):
    with pytest.raises(InputError, match="frames is 9; it must be a multiple of the 8 runs"):
        xtb.make_set(9)
    monkeypatch.setitem(sys.modules, "tblite.ase", None)
    with pytest.raises(MissingDependency, match="pip install 'tpcalc.labels.'"):
        xtb.calculator()
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(sys, "argv", ["xtb", str(tmp_path / "a.xyz")])
    with pytest.raises(SystemExit) as stop:
        xtb.main()
    assert stop.value.code == 3
    assert "tblite" in capsys.readouterr().err
    assert not (tmp_path / "a.xyz").exists()
