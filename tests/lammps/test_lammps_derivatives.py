"""Forces and virial against finite differences, LAMMPS' own and ours."""

import numpy as np
import pytest
from decks import BAR, SYSTEMS, head, water_box
from tpcalc.lammps.run import run_deck

THERMO = "thermo_modify format float %.16g\n"


@pytest.mark.parametrize("ranks", [1, 2])
def test_numdiff_of_forces_and_virial(ranks, exported, tmp_path):
    """`fix numdiff` moves atoms, `fix numdiff/virial` strains the triclinic box."""
    text = head(SYSTEMS["crystal"](), exported("float64", "cg/fused"), tmp_path)
    text += "fix f all numdiff 1 1e-5\nfix v all numdiff/virial 1 1e-5\n"
    text += "variable dx atom f_f[1]-fx\nvariable dy atom f_f[2]-fy\nvariable dz atom f_f[3]-fz\n"
    text += (
        "compute worst all reduce maxabs v_dx v_dy v_dz\ncompute force all reduce maxabs fx fy fz\n"
    )
    text += "compute virial all pressure NULL virial\n"
    text += "thermo_style custom step c_worst[*] c_force[*] f_v[*] c_virial[*]\n" + THERMO
    text += "fix nve all nve\nrun 1\n"
    table = run_deck(text, ranks=ranks, folder=tmp_path).thermo[0]
    row = {name: values[-1] for name, values in table.items()}
    largest = max(row[f"c_force[{i}]"] for i in (1, 2, 3))
    # what is left is the round-off of energies of -6000 eV over 1e-5 Å
    assert max(row[f"c_worst[{i}]"] for i in (1, 2, 3)) < 1e-6 * largest
    # fix numdiff/virial has the order xx yy zz yz xz xy, compute pressure xx yy zz xy xz yz
    numeric = np.array([row[f"f_v[{i}]"] for i in (1, 2, 3, 6, 5, 4)])
    ours = np.array([row[f"c_virial[{i}]"] for i in range(1, 7)])
    assert np.abs(numeric - ours).max() < 1e-6 * np.abs(ours).max()


def test_pressure_is_minus_the_slope_of_energy_over_volume(exported, tmp_path):
    """Pins the sign."""
    text = head(water_box(1), exported("float64", "cg/fused"), tmp_path)
    text += "thermo_style custom step pe vol press\n" + THERMO + "run 0\n"
    for scale in (1.0 - 1e-5, (1.0 + 1e-5) / (1.0 - 1e-5)):
        ends = f"x scale {scale:.15g} y scale {scale:.15g} z scale {scale:.15g}"
        text += f"change_box all {ends} remap\nrun 0\n"
    centre, small, large = run_deck(text, folder=tmp_path).thermo
    slope = (large["PotEng"][0] - small["PotEng"][0]) / (large["Volume"][0] - small["Volume"][0])
    pressure = centre["Press"][0]
    assert abs(pressure + slope * BAR) < 1e-5 * abs(pressure)


def test_npt_conserves_its_energy(exported, tmp_path):
    """`econserve` of fix npt has the work of the pressure in it: a wrong virial makes it run."""
    text = head(SYSTEMS["crystal"](), exported("float64", "cg/fused"), tmp_path)
    text += "velocity all create 100 4711 loop geom\ntimestep 0.0002\n"
    text += "fix 1 all npt temp 100 100 0.02 tri 0 0 0.2\n"
    text += "thermo 5\nthermo_style custom step econserve ke vol\n" + THERMO + "run 100\n"
    table = run_deck(text, folder=tmp_path).thermo[0]
    assert np.ptp(table["Econserve"]) < 0.03 * max(table["KinEng"])
    assert abs(table["Volume"][-1] - table["Volume"][0]) > 1e-4
