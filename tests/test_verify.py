"""Certificates: they pass for right kernels and fail for each kind of wrong one."""

import numpy as np
import pytest
import torch
from tests.small import SPECIES, random_potential
from tpcalc.errors import CheckFailed, InputError
from tpcalc.graph import build_graph
from tpcalc.potential import build_potential
from tpcalc.storage import read_manifest, save_potential
from tpcalc.tensor_products.base import Convolution
from tpcalc.verify import SPLINED, _splined_species, probe_structures, verify


def test_probes_have_all_species_and_shapes():
    probes = probe_structures(SPECIES, 4.0)
    assert {s for a in probes.values() for s in a.get_chemical_symbols()} == set(SPECIES)
    edges = {
        name: build_graph(a.positions, a.cell.array, a.pbc, 4.0).num_edges
        for name, a in probes.items()
    }
    assert edges["one atom"] == edges["far apart"] == 0
    assert edges["small cell"] > 2
    assert probes["slab"].pbc.tolist() == [True, True, False]
    again = probe_structures(SPECIES, 4.0)
    for name, atoms in probes.items():
        np.testing.assert_array_equal(atoms.positions, again[name].positions)


def test_right_kernels_pass_and_the_certificate_is_stored(tmp_path):
    path = save_potential(random_potential("shared"), tmp_path / "p.safetensors")
    certificate = verify(path, store=True)
    assert certificate["passed"]
    assert {r["dtype"] for r in certificate["rows"]} == {"float64", "float32"}
    assert read_manifest(path)["certificates"] == certificate


class _WrongBackward(torch.autograd.Function):
    """The identity, with a gradient that is wrong by 1 %: energies agree to the last bit."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, g):
        return 1.01 * g


@pytest.mark.parametrize("fault", ["value", "gradient"])
def test_a_wrong_kernel_is_found(monkeypatch, fault):
    original = Convolution.forward

    def wrong(self, node_feats, edge_basis, *rest):
        if self.algorithm_class != "CgSparse":
            return original(self, node_feats, edge_basis, *rest)
        if fault == "gradient":
            return original(self, node_feats, _WrongBackward.apply(edge_basis), *rest)
        return original(self, node_feats, edge_basis, *rest) * (1 + 1e-7)

    monkeypatch.setattr(Convolution, "forward", wrong)
    with pytest.raises(CheckFailed, match=r"cg/sparse in float64 .*do not use") as caught:
        verify(random_potential(), ["cg/reference", "cg/sparse"], ("float64",))
    rows = {r["variant"]: r for r in caught.value.result["rows"]}
    assert rows["cg/reference"]["passed"]
    if fault == "gradient":
        assert rows["cg/sparse"]["energy"] < 1e-12
        assert rows["cg/sparse"]["forces"] > 1e-9
        assert rows["cg/sparse"]["finite_difference"] > 1e-6


def test_unknown_names():
    with pytest.raises(InputError, match=r"give the path of NAME\.safetensors"):
        verify(random_potential(), store=True)
    with pytest.raises(InputError, match="did you mean 'cg/sparse'"):
        verify(random_potential(), ["cg/spars"])
    with pytest.raises(InputError, match="unknown dtype 'float16'"):
        verify(random_potential(), dtypes=("float16",))


def test_splines_by_pair_are_measured_on_few_elements():
    """Of twelve; a table for each of the 144 pairs is not made."""
    species = ["H", "He", "Li", "Be", "B", "C", "N", "O", "F", "Ne", "Na", "Mg"]
    torch.manual_seed(3)
    potential = build_potential({
        "architecture": "mace", "function": "cg", "species": species, "cutoff": 4.0, "lmax": 1,
        "hidden_irreps": "4x0e", "radial_hidden": [8], "correlation": 2,
        "radial_transform": "agnesi",
    }, "cg/reference")  # fmt: skip
    stored = [{"numbers": [1, 8, 8]}, {"numbers": [6, 1]}, {"numbers": list(range(1, 13))}]
    chosen, goldens = _splined_species(potential, {"probes": stored, "tolerance": 1})
    assert sorted(chosen) == ["C", "H", "O"]
    assert goldens == {"probes": stored[:2], "tolerance": 1}
    certificate = verify(potential, dtypes=("float64",), radial="spline")
    assert certificate["elements"] == species[:SPLINED]
    assert [row["variant"] for row in certificate["rows"]] == ["cg/fused"]
    assert 0 < certificate["rows"][0]["forces"] < 1e-4
