"""SevenNet checkpoints: small ones against e3nn's modules, refusals."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.importers.originals import original_model
from tests.importers.sevennet_small import TYPE_MAP, SmallSevenNet
from tests.small import crystal
from tpcalc import TPCalculator
from tpcalc.bench.workloads import workload
from tpcalc.errors import InputError
from tpcalc.graph import build_graph
from tpcalc.importers import sevennet


@pytest.fixture
def small(tmp_path, request):
    """(oracle, path of its checkpoint)."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)  # e3nn builds its modules in it
    model = SmallSevenNet(*request.param)
    torch.save(model.checkpoint(), tmp_path / "small.pth")
    yield model, tmp_path / "small.pth"
    torch.set_default_dtype(before)


KINDS = [(True, "nequip"), (True, "linear"), (False, "linear")]


@pytest.mark.parametrize("small", KINDS, indirect=True)
def test_small_model_equals_e3nn(small):
    oracle, path = small
    potential, _ = sevennet.load(path)
    assert potential.species == ["C", "H", "O"]
    atoms = crystal()
    graph = build_graph(atoms.positions, atoms.cell.array, atoms.pbc, potential.cutoff)
    species = torch.tensor([TYPE_MAP.get(z, 1) for z in atoms.numbers])
    vectors = torch.from_numpy(graph.edge_vectors).requires_grad_(True)
    expected = oracle(species, torch.from_numpy(graph.edge_index), vectors)
    energy = potential(species, torch.from_numpy(graph.edge_index), vectors, len(atoms)).sum()
    assert energy.item() == pytest.approx(expected.item(), abs=1e-9)
    g, g_expected = (torch.autograd.grad(e, vectors)[0] for e in (energy, expected))
    assert (g - g_expected).abs().max() < 1e-9


@pytest.mark.parametrize("small", [(False, "linear")], indirect=True)
def test_a_flipped_sign_of_a_stored_3j_flips_its_columns(small):
    _, path = small
    stored = torch.load(path, weights_only=False)
    config, state = sevennet.read_checkpoint(path)
    before = sevennet.convert(config, state)
    for key, value in stored["model_state_dict"].items():
        if "_w3j_1_1_1" in key:
            value.neg_()
    torch.save(stored, path)
    after, _ = sevennet.load(path)
    # the 0e -> 0e layers have no such path; layer 1 ends in scalars: nothing may change there
    changed = [
        name for name, value in after.state_dict().items()
        if not torch.equal(value, before.state_dict()[name])
    ]  # fmt: skip
    expected = any("_w3j_1_1_1" in key for key in stored["model_state_dict"])
    assert bool(changed) == expected


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("act_radial", "relu", "act_radial = 'relu'"),
        ("use_modality", True, "use_modality"),
        ("act_gate", {"e": "relu", "o": "tanh"}, "act_gate"),
        ("readout_as_fcn", True, "readout_as_fcn = True"),
        ("interaction_type", "mace", "interaction_type = 'mace'"),
        ("lmax_edge", 1, "lmax_edge = 1"),
        ("self_connection_type", "none", "self_connection_type"),
    ],
)
@pytest.mark.parametrize("small", [(True, "linear")], indirect=True)
def test_what_cannot_be_carried_is_refused_by_name(small, key, value, text):
    config, state = sevennet.read_checkpoint(small[1])
    with pytest.raises(InputError, match=text):
        sevennet.convert({**config, key: value}, state)


def test_objects_in_a_pickle_are_refused(tmp_path):
    torch.save({"model_state_dict": {}, "config": Path("x")}, tmp_path / "bad.pth")
    with pytest.raises(InputError, match="numbers alone"):
        sevennet.load(tmp_path / "bad.pth")


@pytest.mark.imports
def test_a_model_with_modalities_is_refused(tmp_path):
    path = original_model("sevennet", "mf_0", tmp_path)
    with pytest.raises(InputError, match="use_modality = True"):
        sevennet.load(path)


@pytest.mark.imports
def test_forces_of_sevennet_0_with_splines(tmp_path):
    """Its XPLOR cutoff's second derivative jumps at 4.5 Å."""
    potential, _ = sevennet.load(original_model("sevennet", "0", tmp_path))
    atoms = workload("water:64")
    exact, splined = (
        TPCalculator(potential, "cg/fused", dtype="float64", radial=radial).get_forces(atoms)
        for radial in ("network", "spline")
    )
    assert 0 < np.abs(splined - exact).max() < 1e-5
