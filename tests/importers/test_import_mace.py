"""MACE models: tiny ones against stored results of mace itself, refusals, couplings."""

import json
from pathlib import Path

import pytest
import torch
from e3nn.o3 import Irrep, Irreps
from tests.importers.agreement import assert_goldens
from tests.importers.originals import original_model, original_python
from tpcalc.cli import main
from tpcalc.errors import InputError
from tpcalc.importers import foreign, mace
from tpcalc.importers.symmetric import change_of_paths
from tpcalc.storage import read_manifest
from tpcalc.tensor_products.symmetric.cg import u_tensors

HERE = Path(__file__).parent
LINEAR, NONLINEAR = {"class": "LinearReadoutBlock"}, {"class": "NonLinearReadoutBlock"}
HEADS = {"tiny_heads": "scan", "tiny_density": None}


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("variant", ["cg/reference", "cg/grouped"])
def test_tiny_models_equal_mace(kind, variant):
    given, arrays = foreign.read_handover(HERE / f"{kind}.npz")
    potential = mace.convert(given, arrays, HEADS[kind], variant)
    assert_goldens(potential, HERE / f"{kind}.json")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"class": "AtomicDipolesMACE"}, "AtomicDipolesMACE"),
        ({"radial": "GaussianBasis"}, "GaussianBasis"),
        ({"extras": ["interactions", "joint_embedding"]}, "joint_embedding"),
        ({"distance_transform": "SoftTransform"}, "SoftTransform"),
        ({"edge_irreps": "1x0e+1x1e"}, "edge irreps"),
        ({"extras": ["interactions", "les"]}, "module 'les'"),
        ({"interactions": [{"class": "RealAgnosticAttResidualInteractionBlock"}]}, "AttResidual"),
        ({"readouts": [{"class": "LinearDipoleReadoutBlock"}]}, "LinearDipoleReadoutBlock"),
        ({"readouts": [LINEAR, {**NONLINEAR, "activation": ["tanh"]}]}, "readout 1 'tanh'"),
        ({"readouts": [NONLINEAR]}, "number of readouts"),
    ],
)
def test_what_cannot_be_carried_is_refused_by_name(change, text):
    given, arrays = foreign.read_handover(HERE / "tiny_density.npz")
    with pytest.raises(InputError, match=text):
        mace.convert({**given, **change}, arrays)


@pytest.mark.parametrize("head", [None, "dft"])
def test_a_head_must_be_named(head):
    given, arrays = foreign.read_handover(HERE / "tiny_heads.npz")
    with pytest.raises(InputError, match="pbe, scan"):
        mace.convert(given, arrays, head)


def test_any_basis_of_couplings_is_solved_for():
    irreps = Irreps("0e+1o+2e")
    own = u_tensors(irreps, [Irrep("1o")], 3)[0]
    mix = torch.randn(own.shape[-1], 4, dtype=torch.float64)
    change = change_of_paths(irreps, Irrep("1o"), 3, own @ mix)
    x = torch.randn(9, dtype=torch.float64)
    cubes = torch.einsum("kabcp,a,b,c->kp", own, x, x, x)
    assert torch.allclose(cubes @ change, cubes @ mix, atol=1e-9)
    with pytest.raises(InputError, match="not an equivariant"):
        change_of_paths(irreps, Irrep("1o"), 3, torch.randn_like(own))


@pytest.mark.imports
def test_a_head_is_named_on_the_command_line(tmp_path, capsys):
    """Two heads: none is taken unasked; the one that is named agrees with mace's."""
    python, output = original_python("mace"), tmp_path / "heads.safetensors"
    model = original_model("mace", "tiny_heads", tmp_path)
    arguments = ["import", str(model), "--from", "mace", "--trust", "--python", python]
    for head in ([], ["--head", "dft"]):
        assert main([*arguments, *head, "-o", str(output)]) == 2
        assert "pbe, scan" in capsys.readouterr().err
        assert not output.exists()
    energies = {}
    for head in ("pbe", "scan"):
        assert main([*arguments, "--head", head, "-o", str(output), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["difference"]["forces"] < 1e-8
        entry = read_manifest(output)["imported"]
        assert entry["head"] == head
        energies[head] = entry["probes"][0]["energy"]
    assert abs(energies["pbe"] - energies["scan"]) > 0.1
