"""The decks of examples/lammps run as their first lines say, on the shipped potential."""

import shutil
from pathlib import Path

import pytest
from tpcalc.export import export_potential
from tpcalc.lammps.run import run_deck
from tpcalc.storage import load_potential

ROOT = Path(__file__).parents[2]
DECKS = ROOT / "examples" / "lammps"
POTENTIAL = ROOT / "models" / "3bpa-cg" / "potential.safetensors"


@pytest.fixture
def folder(tmp_path):
    for path in DECKS.iterdir():
        if path.name.startswith("in.") or path.suffix == ".data":
            shutil.copy(path, tmp_path)
    return tmp_path


def test_molecule_on_two_ranks(folder):
    export_potential(load_potential(POTENTIAL), folder / "3bpa-cg.pt", variant="cg/fused")
    run = run_deck(folder / "in.3bpa", ranks=2, variables={"steps": 40}, folder=folder)
    assert len(run.loops) == 2
    assert (folder / "after.data").exists()
    free = run.thermo[1]["TotEng"]
    assert abs(free[-1] - free[0]) < 0.01


def test_variants_have_one_energy(folder):
    names = ["reference", "grouped", "fused"]
    for name in names:
        file = folder / f"cg-{name}.pt"
        export_potential(load_potential(POTENTIAL), file, dtype="float64", variant=f"cg/{name}")
    # -var of an index variable replaces the list of the deck
    run = run_deck(folder / "in.variants", variables={"tp": names, "steps": 5}, folder=folder)
    energies = [table["PotEng"][-1] for table in run.thermo[1::2]]
    assert len(energies) == 3
    assert max(energies) - min(energies) < 1e-6
    for name in names:
        assert f"variant              cg/{name} (" in run.log
