"""Imported models in LAMMPS on two ranks: ASE's forces, and the energy of water conserved."""

import numpy as np
import pytest
from decks import by_ase, head, single_point, water_box
from tests.importers.originals import original_model, original_python
from tpcalc.export import export_potential
from tpcalc.importers import mace, sevennet
from tpcalc.lammps.run import run_deck

pytestmark = pytest.mark.imports
STEPS, TIMESTEP = 1000, 0.25  # fs


@pytest.fixture(scope="module", params=["mace", "sevennet"])
def potential(request, tmp_path_factory):
    """MACE of OFF23 small's shape (random weights), and SevenNet-0."""
    kind = {"mace": "off_small", "sevennet": "0"}[request.param]
    path = original_model(request.param, kind, tmp_path_factory.mktemp("original"))
    if request.param == "sevennet":
        return sevennet.load(path)[0]
    return mace.load(path, original_python("mace"))[0]


def test_two_ranks_give_ases_forces(potential, tmp_path):
    path = tmp_path / "p.pt"
    export_potential(potential, path, dtype="float64", variant="cg/fused")
    atoms = water_box()
    want = by_ase(atoms, potential)
    got = single_point(atoms, path, tmp_path, ranks=2)
    assert np.abs(got["forces"] - want["forces"]).max() < 1e-10 * np.abs(want["forces"]).max()
    assert abs(got["energy"] - want["energy"]) < 1e-9 * len(atoms)


def test_water_conserves_energy_in_float32(potential, tmp_path):
    """NVE after a short relaxation; the drift is the slope of the total energy."""
    path = tmp_path / "p.pt"
    export_potential(potential, path, dtype="float32", variant="cg/fused")
    atoms = water_box()
    text = head(atoms, path, tmp_path)
    text += (
        "min_style cg\nminimize 0 0.05 30 60\nreset_timestep 0\n"
        "velocity all create 300 4711 mom yes rot yes loop geom\n"
        f"timestep {TIMESTEP / 1000}\nfix 1 all nve\nthermo 10\n"
        "thermo_style custom step etotal ke\nthermo_modify format float %.15g\n"
        f"run {STEPS}\n"
    )
    table = run_deck(text, ranks=2, folder=tmp_path).thermo[-1]
    energy = np.array(table["TotEng"]) / len(atoms) * 1000  # meV/atom
    time = np.array(table["Step"]) * TIMESTEP / 1000  # ps
    drift = np.polyfit(time, energy, 1)[0]
    print(f"drift {drift:.3f} meV/atom/ps, spread {np.ptp(energy):.3f} meV/atom")
    assert abs(drift) < 0.5
    assert max(table["KinEng"]) / len(atoms) > 0.01  # it moves
