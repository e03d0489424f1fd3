"""`tpcalc bench step`: what it times computes the same numbers, and refuses what it cannot do."""

import pytest
import torch
from tpcalc.bench.step import bench_step, random_graph, random_network, variant_of
from tpcalc.errors import InputError
from tpcalc.potential import energy_and_edge_gradient

SMALL = {"nodes": 6, "edges": 40, "channels": 4, "layers": 2, "repeat": 2}


@pytest.mark.parametrize("architecture", ["nequip", "mace"])
def test_variants_agree_and_rows_are_complete(architecture):
    names = ["cg/e3nn", "cg/grouped", "cg/fused+spline"]
    result = bench_step(names, 2, **SMALL, architecture=architecture)
    assert [row["variant"] for row in result["variants"]][0] == "cg/e3nn"
    for row in result["variants"]:
        assert row["difference"] < 1e-4
        assert row["operators"] > 50
    assert result["variants"][0]["times"] == 1.0


@pytest.mark.parametrize("architecture", ["nequip", "mace"])
def test_training_step_of_fused_equals_e3nn(architecture):
    names = ["cg/e3nn", "cg/fused"]
    result = bench_step(names, 1, training=True, **SMALL, architecture=architecture)
    assert result["mode"] == "eager"
    assert result["variants"][1]["difference"] < 1e-5
    with pytest.raises(InputError, match="cannot be trained"):
        bench_step(["cg/fused+spline"], 1, training=True, **SMALL)


def test_timed_gradient_is_that_of_the_energy():
    """Finite differences in float64 along one edge."""
    potential = variant_of(random_network("cg/fused", 1, 4, 2, 6.0), "cg/fused").double()
    species, index, vectors = random_graph(6, 40)
    vectors = vectors.double()
    _, g = energy_and_edge_gradient(potential, species, index, vectors, 6)
    moved = torch.zeros_like(vectors)
    moved[7, 1] = 1e-5
    up = potential(species, index, vectors + moved, 6).sum()
    down = potential(species, index, vectors - moved, 6).sum()
    assert abs(float((up - down) / 2e-5 - g[7, 1])) < 1e-7 * float(g.abs().max()) + 1e-8


def test_counts_are_checked():
    with pytest.raises(InputError, match="repeat 0"):
        bench_step(["cg/e3nn"], 1, **{**SMALL, "repeat": 0})
