"""`tpcalc bench lammps`: rows of networks and splines, against ASE's energies and forces."""

from tests.small import ethanol, random_potential
from tpcalc.bench.lammps import bench_lammps


def test_rows_agree_with_ase():
    names = ["cg/fused", "cg/fused+spline"]
    result = bench_lammps(random_potential(), ethanol(), names, (1,), 2, with_ase=False)
    network, spline = result["rows"]
    assert [network["variant"], spline["variant"]] == names
    assert "splines" in spline["algorithm_class"]
    assert 0 < network["dF_eV_A"] < 1e-3
    assert 0 < spline["dF_eV_A"] < 1e-3
    assert max(row["dE_eV_atom"] for row in result["rows"]) < 1e-4
