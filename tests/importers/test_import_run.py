"""`tpcalc import` from end to end on a small file."""

import json

import pytest
from tests.importers.test_import_nequix import write_small
from tpcalc.cli import main
from tpcalc.errors import CheckFailed, InputError
from tpcalc.importers.run import compare, evaluate_ours, import_model, probe_structures
from tpcalc.storage import load_potential


def test_import_writes_goldens_and_licence(tmp_path, capsys):
    model = write_small(tmp_path / "small.nqx")
    output = tmp_path / "small.safetensors"
    assert main(["import", str(model), "--from", "nequix", "-o", str(output), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert "MIT" in summary["licence"]
    potential = load_potential(output, variant="cg/sparse")
    imported = potential.manifest["imported"]
    assert imported["format"] == "nequix"
    assert "MIT" in potential.manifest["licence"]
    structures = probe_structures(potential)
    for result, golden in zip(evaluate_ours(potential, structures), imported["probes"]):
        assert result["energy"] == pytest.approx(golden["energy"], abs=1e-10)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--from", "nequics", "-o", "x.safetensors"], "did you mean 'nequix'"),
        (["--from", "mace", "-o", "x.safetensors"], "add --trust"),
        (["--from", "nequix", "-o", "x.pt"], "must end in .safetensors"),
        (["--from", "nequix", "--head", "dft", "-o", "x.safetensors"], "no heads"),
        (["-o", "x.safetensors"], "--from is missing"),
    ],
)
def test_wrong_requests_are_named(tmp_path, arguments, text, capsys):
    model = write_small(tmp_path / "small.nqx")
    arguments = [str(tmp_path / a) if a.startswith("x.") else a for a in arguments]
    assert main(["import", str(model), *arguments]) == 2
    assert text in capsys.readouterr().err


def test_a_difference_from_the_original_fails(tmp_path):
    model = write_small(tmp_path / "small.nqx")
    import_model(model, "nequix", tmp_path / "a.safetensors")
    potential = load_potential(tmp_path / "a.safetensors", variant="cg/sparse")
    structures = probe_structures(potential)
    ours = evaluate_ours(potential, structures)
    assert compare(ours, ours, structures, "mace")["forces"] == 0
    theirs = [{**r, "energy": r["energy"] + 0.1} for r in ours]
    with pytest.raises(CheckFailed, match="differs from the original"):
        compare(ours, theirs, structures, "mace")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match="no model at"):
        import_model(tmp_path / "none.nqx", "nequix", tmp_path / "a.safetensors")
