"""NequIP models: a tiny one against stored results of nequip, refusals, packages."""

import json
import subprocess
from pathlib import Path

import pytest
from tests.importers.agreement import assert_goldens
from tests.importers.originals import original_model, original_python
from tpcalc.cli import main
from tpcalc.errors import InputError
from tpcalc.importers import foreign, nequip
from tpcalc.verify import verify

HERE = Path(__file__).parent


@pytest.mark.parametrize("variant", ["cg/reference", "cg/e3nn", "cg/grouped", "cg/so2", "cg/fused"])
def test_a_tiny_model_equals_nequip(variant):
    given, arrays = foreign.read_handover(HERE / "tiny_parity.npz")
    potential = nequip.convert(given, arrays, variant)
    assert_goldens(potential, HERE / "tiny_parity.json")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"per_edge_type_cutoff": "1 2"}, "per_edge_type_cutoff"),
        ({"graph_fields": ["charge"]}, "charge"),
        ({"modules": {"pair_potential": "LennardJones"}}, "LennardJones"),
        ({"modules": {"dipole": "DipoleHead"}}, "module dipole"),
        ({"type_names": ["A1", "C", "N", "O"]}, "A1"),
    ],
)
def test_what_cannot_be_carried_is_refused_by_name(change, text):
    given, arrays = foreign.read_handover(HERE / "tiny_parity.npz")
    with pytest.raises(InputError, match=text):
        nequip.convert({**given, **change}, arrays)


@pytest.mark.parametrize(
    ("part", "change", "text"),
    [
        ("layers", {"resnet": True}, "resnet of layer 1 True"),
        ("layers", {"class": "AttentionBlock"}, "convolution of layer 1 'AttentionBlock'"),
        ("layers", {"scatter": "OpenEquivarianceScatter"}, "tensor product of layer 1"),
        ("layers", {"nonlinearity": {"class": "NormActivation"}}, "'NormActivation'"),
        ("layers", {"nonlinearity": {"class": "Gate", "act_scalars": [["0e", "tanh", 1.0]]}},
         "act_scalars 0e of layer 1 'tanh'"),
        ("readout", {"layers": 3}, "layers of the readout 3"),
        ("readout", {"layers": 2, "activation": "Mish"}, "activation of the readout 'Mish'"),
        ("readout", {"bias": True}, "bias of the readout"),
    ],
)  # fmt: skip
def test_parts_of_layers_and_readout_are_refused_by_name(part, change, text):
    given, arrays = foreign.read_handover(HERE / "tiny_parity.npz")
    if part == "layers":
        given["layers"][1] |= change
    else:
        given["readout"] |= change
    with pytest.raises(InputError, match=text):
        nequip.convert(given, arrays)


@pytest.mark.parametrize("name", ["a.nequip.pt2", "a.nequip.pth"])
def test_compiled_models_are_refused(name, tmp_path, capsys):
    """They hold machine code or TorchScript, no weights by name."""
    (tmp_path / name).write_bytes(b"x")
    arguments = ["import", str(tmp_path / name), "--from", "nequip", "--trust"]
    assert main([*arguments, "-o", str(tmp_path / "a.safetensors")]) == 2
    assert "nequip-compile" in capsys.readouterr().err


@pytest.mark.imports
def test_a_package_of_nequip_is_imported(tmp_path, capsys):
    """`nequip-package build`, then `tpcalc import`: compared with nequip on the way."""
    python = original_python("nequip")
    checkpoint = original_model("nequip", "tiny_plain", tmp_path)
    package = tmp_path / "tiny.nequip.zip"
    command = [str(Path(python).with_name("nequip-package")), "build"]
    subprocess.run([*command, str(checkpoint), str(package)], check=True, capture_output=True)
    output = tmp_path / "tiny.safetensors"
    arguments = ["import", str(package), "--from", "nequip", "--trust", "--python", python]
    assert main([*arguments, "-o", str(output), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["difference"]["forces"] < 1e-8
    certificate = verify(output, ["cg/grouped", "cg/fused"])
    assert all(row["original_forces"] < 1e-3 for row in certificate["rows"])
