"""What LAMMPS offers around a pair style: restart, several runs, clear, minimize, hybrid."""

import numpy as np
from decks import SYSTEMS, by_ase, head, molecule_in_vacuum, water_box
from tpcalc.lammps.run import read_dump, run_deck

DUMP = "dump all all custom {every} {name} id x y z vx vy vz fx fy fz\n"
DUMP += "dump_modify all format float %.17g\n"
COLUMNS = ("x", "y", "z", "vx", "vy", "vz", "fx", "fy", "fz")
# one atom order and one neighbour list for a position: the condition for equal bits
FIXED = "atom_modify map yes sort 0 0\n"
LISTS = "neigh_modify every 5 delay 0 check no\n"
NVE = "timestep 0.0002\nfix 1 all nve\n"


def last_frame(path):
    frame = read_dump(path)[-1]
    return np.array([frame[key] for key in COLUMNS])


def start(atoms, path, folder):
    text = head(atoms, path, folder).replace("atom_modify map yes\n", FIXED)
    return text + LISTS + "velocity all create 300 4711 loop geom\n"


def test_restart_and_two_halves_continue_bit_for_bit(exported, tmp_path):
    """run 20 = run 10 twice = run 10, restart in a new process, run 10: on two ranks.

    In an orthogonal box: LAMMPS itself rounds positions of a triclinic one at every setup.
    """
    atoms, path = water_box(1), exported("float64", "cg/fused")
    text = start(atoms, path, tmp_path)
    whole = text + NVE + DUMP.format(every=20, name="whole.dump") + "run 20\n"
    halves = text + NVE + DUMP.format(every=20, name="halves.dump") + "run 10\n"
    halves += "write_restart half.restart\nrun 10\n"
    run_deck(whole, ranks=2, folder=tmp_path)
    run_deck(halves, ranks=2, folder=tmp_path)
    again = f"units metal\n{FIXED}read_restart half.restart\npair_style tpcalc\n"
    again += f"pair_coeff * * {path} H C O\n" + LISTS + NVE
    again += DUMP.format(every=20, name="again.dump") + "run 10\n"
    run_deck(again, ranks=2, folder=tmp_path)
    want = last_frame(tmp_path / "whole.dump")
    assert np.array_equal(last_frame(tmp_path / "halves.dump"), want)
    assert np.array_equal(last_frame(tmp_path / "again.dump"), want)


def test_clear_reload_index_variables_and_threads(exported, potential, tmp_path):
    """One deck, two dtypes after `clear`, then the threads keyword."""
    atoms = molecule_in_vacuum()
    one = head(atoms, "${file}", tmp_path)
    text = f"variable file index {exported()} {exported('float32')} {exported()}\nlabel again\n"
    text += one + "thermo_style custom step pe\nthermo_modify format float %.15g\nrun 0\n"
    text += "clear\nnext file\njump SELF again\n"
    run = run_deck(text, folder=tmp_path, threads=None)
    first, second, third = (table["PotEng"][0] for table in run.thermo)
    assert first == third
    assert 0.0 < abs(second - first) < 1e-3
    assert abs(first - by_ase(atoms, potential)["energy"]) < 1e-9
    import os

    assert f"ranks x threads      1 x {len(os.sched_getaffinity(0))}" in run.log


def test_minimize_and_box_relax(exported, tmp_path):
    """A small system falls in energy until its forces are small; two ranks take the same way."""
    text = head(SYSTEMS["crystal"](), exported("float64", "cg/fused"), tmp_path)
    text += "thermo_style custom step pe fnorm press\nthermo_modify format float %.15g\n"
    text += "thermo 1000\nmin_style cg\nminimize 0 1e-3 40 80\n"
    run = run_deck(text, ranks=2, folder=tmp_path)
    energies, forces = run.thermo[0]["PotEng"], run.thermo[0]["Fnorm"]
    assert energies[-1] < energies[0]
    assert forces[-1] < forces[0]
    text += "fix box all box/relax aniso 0.0 vmax 0.001\nminimize 0 1e-3 20 40\n"
    relaxed = run_deck(text, folder=tmp_path).thermo
    assert abs(relaxed[0]["PotEng"][-1] - energies[-1]) < 1e-8
    assert relaxed[1]["PotEng"][-1] <= relaxed[0]["PotEng"][-1] + 1e-12


def test_rerun_gives_the_energies_of_the_run(exported, tmp_path):
    text = head(molecule_in_vacuum(), exported("float64", "cg/fused"), tmp_path)
    text += "velocity all create 300 4711 loop geom\n" + NVE
    text += DUMP.format(every=2, name="run.dump")
    text += "thermo 2\nthermo_style custom step pe\nthermo_modify format float %.15g\nrun 6\n"
    text += "undump all\nrerun run.dump dump x y z\n"
    first, second = run_deck(text, folder=tmp_path).thermo
    assert np.allclose(first["PotEng"], second["PotEng"], atol=1e-9, rtol=0)


def test_hybrid_with_null_element(exported, potential, tmp_path):
    """Oxygen is ruled by lj/cut: those atoms have no edges and no energy of the potential."""
    atoms = water_box(1)
    atoms.symbols[atoms.symbols == "H"] = "C"
    path = exported()
    style = "pair_style hybrid tpcalc lj/cut 3.0"
    text = head(atoms, path, tmp_path, style=style).replace(
        f"pair_coeff * * {path} H C O\n",
        f"pair_coeff * * tpcalc {path} H C NULL\npair_coeff 3 3 lj/cut 0.01 2.0\n"
        "pair_coeff 1*2 3 lj/cut 0.01 2.0\n",
    )
    text += "compute tp all pair tpcalc\nthermo_style custom step c_tp\n"
    text += "thermo_modify format float %.15g\nrun 0\n"
    carbons = atoms[atoms.symbols == "C"]
    for ranks in (1, 2):
        table = run_deck(text, ranks=ranks, folder=tmp_path).thermo[0]
        assert abs(table["c_tp"][0] - by_ase(carbons, potential)["energy"]) < 1e-8


def test_overlay_with_dispersion(exported, potential, tmp_path):
    """D3 needs fixed elements per type too; the sum of the two parts is the energy."""
    atoms = molecule_in_vacuum()
    path = exported()
    style = "pair_style hybrid/overlay tpcalc dispersion/d3 bj pbe 10.0 8.0"
    text = head(atoms, path, tmp_path, style=style).replace(
        f"pair_coeff * * {path} H C O\n",
        f"pair_coeff * * tpcalc {path} H C O\npair_coeff * * dispersion/d3 H C O\n",
    )
    text += "compute tp all pair tpcalc\ncompute d3 all pair dispersion/d3\n"
    text += "thermo_style custom step pe c_tp c_d3\nthermo_modify format float %.15g\nrun 0\n"
    table = run_deck(text, ranks=2, folder=tmp_path).thermo[0]
    assert abs(table["c_tp"][0] - by_ase(atoms, potential)["energy"]) < 1e-8
    assert -2.0 < table["c_d3"][0] < -0.01
    assert abs(table["PotEng"][0] - table["c_tp"][0] - table["c_d3"][0]) < 1e-8
