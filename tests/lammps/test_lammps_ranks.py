"""The number of ranks, how atoms lie on them and how LAMMPS divides the box change nothing."""

import numpy as np
import pytest
from decks import SYSTEMS, by_ase, far_corner, head, single_point, water_box
from tpcalc.lammps.run import read_dump, run_deck

FORCES = "dump all all custom 1 all.dump id x y z fx fy fz\ndump_modify all format float %.16g\n"
DIVISIONS = {  # what is said before the box exists, after pair_coeff
    "slices": ("processors 4 1 1\n", ""),
    "bricks": ("processors 2 2 1\n", ""),
    "tiled": ("comm_style tiled\n", "balance 1.0 rcb\n"),
    "shifted": ("", "balance 1.0 shift xyz 10 1.05\n"),
    "wide ghosts": ("comm_modify cutoff 9.0\n", ""),
    "multi": ("neighbor 2.0 multi\ncomm_modify mode multi\n", ""),
}


@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_empty_ranks_and_a_rank_with_one_atom(ranks, exported, potential, tmp_path):
    """Slices of a 40 Å box with five atoms in one corner."""
    atoms = far_corner()
    want = by_ase(atoms, potential)
    got = single_point(atoms, exported(), tmp_path, ranks, f"processors {ranks} 1 1\n")
    assert np.abs(got["forces"] - want["forces"]).max() < 1e-10 * np.abs(want["forces"]).max()
    assert abs(got["energy"] - want["energy"]) < 1e-9
    if ranks == 4:  # 10 Å slices: the fifth atom sits alone, two ranks are empty
        histogram = got["run"].log.split("Nlocal:")[1].splitlines()[0].split()
        assert (float(histogram[2]), float(histogram[4])) == (4.0, 0.0)


@pytest.mark.parametrize("division", DIVISIONS)
def test_divisions_of_the_box(division, exported, potential, tmp_path):
    before, after = DIVISIONS[division]
    ranks = 4 if before.startswith("processors") else 2
    atoms = water_box()
    want = by_ase(atoms, potential)
    got = single_point(atoms, exported(), tmp_path, ranks, before, after)
    assert np.abs(got["forces"] - want["forces"]).max() < 1e-10 * np.abs(want["forces"]).max()


def trajectory(atoms, path, folder, ranks, extra="", style="pair_style tpcalc", steps=200):
    """Total energies and the last frame of a run at 300 K."""
    text = head(atoms, path, folder, style=style) + extra + FORCES.replace("all 1", f"all {steps}")
    text += (
        "velocity all create 300 4711 mom yes rot yes loop geom\ntimestep 0.0002\nfix 1 all nve\n"
        f"thermo 20\nthermo_style custom step etotal pe ke\nthermo_modify format float %.15g\n"
        f"run {steps}\n"
    )
    run = run_deck(text, ranks=ranks, folder=folder)
    return np.array(run.thermo[0]["TotEng"]), read_dump(folder / "all.dump")[-1]


@pytest.mark.parametrize(("system", "steps"), [("molecule", 200), ("crystal", 40)])
def test_runs_are_the_same_on_two_ranks_and_conserve_energy(system, steps, exported, tmp_path):
    results, path = {}, exported("float64", "cg/fused")
    for ranks in (1, 2):
        atoms = SYSTEMS[system]()
        energy, last = trajectory(atoms, path, tmp_path, ranks, steps=steps)
        results[ranks] = np.array([last[key] for key in ("x", "y", "z", "fx", "fy", "fz")])
        kinetic = 1.5 * 8.617e-5 * 300 * len(last["id"])
        assert np.ptp(energy) < 2e-3 * kinetic
    assert np.abs(results[1] - results[2]).max() < 1e-8


COORDINATES = ("x", "y", "z", "fx", "fy", "fz")
CUTS = {  # ranks -> who has the five atoms of `far_corner`: 4 and 1, then nobody
    1: "", 2: "balance 1.0 x 0.25\n", 3: "balance 1.0 x 0.25 0.5\n",
    4: "balance 1.0 x 0.25 0.5 0.75\n",
}  # fmt: skip
ZBL = "".join(
    f"pair_coeff {i + 1} {j + 1} zbl {(1, 6, 8)[i]} {(1, 6, 8)[j]}\n"
    for i in range(3)
    for j in range(i, 3)
)


@pytest.mark.parametrize(
    ("overlay", "counts"),
    [(False, (1, 2, 3, 4)), (True, (1, 4))],
    ids=["tpcalc", "hybrid/overlay with zbl"],
)
def test_200_steps_with_empty_ranks_and_one_atom_ranks(
    overlay, counts, exported, tmp_path, monkeypatch
):
    """Positions and forces after 200 NVE steps are those of one rank; energy is conserved."""
    monkeypatch.setenv("MPIR_CVAR_ENABLE_HEAVY_YIELD", "1")  # more ranks than cores: MPICH waits
    monkeypatch.setenv("MPIR_CVAR_POLLS_BEFORE_YIELD", "10")  # busily; 40 % less time so
    path = exported("float64", "cg/fused")
    atoms, results = far_corner(), {}
    style = "pair_style tpcalc"
    if overlay:
        style = f"pair_style hybrid/overlay tpcalc zbl 1.0 2.0\npair_coeff * * tpcalc {path} H C O"
    for ranks in counts:
        text = head(atoms, path, tmp_path, style=style)
        if overlay:
            text = text.replace(f"pair_coeff * * {path} H C O\n", ZBL)
        text = (
            f"processors {ranks} 1 1\n" + text + CUTS[ranks] + FORCES.replace("all 1 ", "all 200 ")
        )
        text += "velocity all create 300 4711 mom yes rot yes loop geom\ntimestep 0.0001\n"
        text += "neigh_modify every 20 delay 0 check no\nfix 1 all nve\n"
        text += "thermo 50\nthermo_style custom step etotal ke\n"
        text += "thermo_modify format float %.15g lost error\nrun 200\n"
        run = run_deck(text, ranks=ranks, folder=tmp_path)
        table, last = run.thermo[0], read_dump(tmp_path / "all.dump")[-1]
        assert np.ptp(table["TotEng"]) < 5e-3 * max(table["KinEng"])
        results[ranks] = np.array([last[key] for key in COORDINATES])
        if ranks > 1:  # bins of the histogram from the fewest to the most atoms of a rank
            histogram = run.log.split("Nlocal:")[1].splitlines()[1].split()[1:]
            assert int(histogram[-1]) == 1
            assert sum(map(int, histogram)) == ranks
    for ranks in counts[1:]:
        assert np.abs(results[ranks] - results[1]).max() < 1e-8


def test_hybrid_overlay_on_two_ranks(exported, tmp_path):
    """With zbl on top: the sum of both, the same on two ranks, energy conserved."""
    atoms = SYSTEMS["crystal"]()
    path = exported("float64", "cg/fused")
    style = f"pair_style hybrid/overlay tpcalc zbl 1.0 2.0\npair_coeff * * tpcalc {path} H C O"
    zbl = "pair_coeff 1 1 zbl 1 1\npair_coeff 2 2 zbl 6 6\npair_coeff 3 3 zbl 8 8\n"
    zbl += "pair_coeff 1 2 zbl 1 6\npair_coeff 1 3 zbl 1 8\npair_coeff 2 3 zbl 6 8"
    results = []
    for ranks in (1, 2):
        text = head(atoms, path, tmp_path, style=style)
        text = text.replace(f"pair_coeff * * {path} H C O\n", zbl + "\n")
        text += "compute tp all pair tpcalc\ncompute z all pair zbl\n" + FORCES
        text += "velocity all create 300 4711 loop geom\nfix 1 all nve\ntimestep 0.0002\n"
        text += "thermo_style custom step pe etotal c_tp c_z\nthermo_modify format float %.15g\n"
        run = run_deck(text + "thermo 20\nrun 50\n", ranks=ranks, folder=tmp_path)
        table = run.thermo[0]
        assert abs(table["PotEng"][0] - table["c_tp"][0] - table["c_z"][0]) < 1e-9
        assert np.ptp(table["TotEng"]) < 2e-3 * len(atoms) * 0.039
        last = read_dump(tmp_path / "all.dump")[-1]
        results.append(np.array([last[key] for key in ("x", "y", "z", "fx", "fy", "fz")]))
    assert np.abs(results[0] - results[1]).max() < 1e-8
