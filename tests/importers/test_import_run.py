"""`tpcalc import` from end to end on a small file."""

import json

import numpy as np
import pytest
from ase.data import chemical_symbols, covalent_radii
from tests.importers.test_import_nequix import write_small
from tpcalc.cli import main
from tpcalc.errors import CheckFailed, InputError
from tpcalc.importers.foreign import environments
from tpcalc.importers.probes import probe_structures
from tpcalc.importers.run import compare, import_model
from tpcalc.storage import load_potential, read_manifest, save_potential, update_manifest
from tpcalc.verify import verify


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
    assert imported["computed_by"] == "tpcalc cg/grouped, float64"
    assert main(["import", str(model), "--from", "nequix", "-o", str(output)]) == 0
    printed = capsys.readouterr().out
    assert "licence of the weights: MIT" in printed
    assert "cite: T. Koker" in printed


@pytest.mark.parametrize(
    ("species", "cutoff"),
    [(["Si"], 5.0), (["H", "C", "O"], 4.0), (list(chemical_symbols[1:90]), 6)],
)
def test_probes_suit_any_elements(species, cutoff):
    probes = probe_structures(species, cutoff)
    assert {s for a in probes.values() for s in a.get_chemical_symbols()} == set(species)
    assert {tuple(a.pbc.tolist()) for a in probes.values()} == {
        (False, False, False), (True, True, True), (True, True, False),
    }  # fmt: skip
    for name, atoms in probes.items():
        distances = atoms.get_all_distances(mic=True)[~np.eye(len(atoms), dtype=bool)]
        radius = min(covalent_radii[atoms.numbers])
        assert len(atoms) == 1 or distances.min() > min(1.2 * radius, 0.65), name
    assert probes["out of reach"].get_distance(0, 1) > cutoff


@pytest.fixture
def imported(tmp_path):
    """A small imported model."""
    output = tmp_path / "small.safetensors"
    import_model(write_small(tmp_path / "small.nqx"), "nequix", output)
    return output


def test_verify_checks_the_stored_results(imported, capsys):
    assert main(["verify", str(imported), "--variants", "cg/grouped", "cg/e3nn"]) == 0
    assert "ΔF original" in capsys.readouterr().out
    rows = verify(imported, ["cg/grouped", "cg/sparse"])["rows"]
    assert all(row["original_energy"] < 1e-10 for row in rows if row["dtype"] == "float64")


def test_verify_finds_a_changed_weight(imported, capsys):
    potential = load_potential(imported, "cg/reference")
    potential.model.layers[1].radial.layers[0].weight[0, 0] += 1e-6
    save_potential(potential, imported)
    assert main(["verify", str(imported), "--variants", "cg/grouped"]) == 1
    assert "of the original" in capsys.readouterr().err


@pytest.mark.parametrize(("key", "change"), [("energy", 1e-6), ("forces", 1e-6), ("stress", 1e-8)])
def test_verify_finds_a_changed_golden(imported, key, change):
    entry = read_manifest(imported)["imported"]
    crystal = next(probe for probe in entry["probes"] if probe["name"] == "crystal")
    crystal[key] = (np.array(crystal[key]) + change).tolist()
    update_manifest(imported, imported=entry)
    with pytest.raises(CheckFailed, match=f"{key} of the original"):
        verify(imported, ["cg/grouped"], ("float64",))


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
    ours = read_manifest(tmp_path / "a.safetensors")["imported"]["probes"]
    ours = [{**p, "forces": np.array(p["forces"])} for p in ours]
    names = [p["name"] for p in ours]
    assert compare(ours, ours, names) == {"energy": 0, "forces": 0, "stress": 0}
    theirs = [{**r, "energy": r["energy"] + 0.1} for r in ours]
    with pytest.raises(CheckFailed, match="differs from the original on 'molecule'"):
        compare(ours, theirs, names)


@pytest.mark.parametrize("source", ["mace", "nequip"])
def test_pickles_need_trust_and_their_package(source, tmp_path, monkeypatch, capsys):
    """Nothing is read without --trust; without an environment the command to make one is named."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    model = tmp_path / "some.model"
    model.write_bytes(b"not read")
    arguments = ["import", str(model), "--from", source, "-o", str(tmp_path / "x.safetensors")]
    assert main(arguments) == 2
    assert "runs code from it" in capsys.readouterr().err
    assert main([*arguments, "--trust"]) == 2
    assert f"tpcalc import --make-env {source}" in capsys.readouterr().err
    assert main([*arguments, "--trust", "--python", str(tmp_path / "no" / "python")]) == 2
    assert "is not a file; name the interpreter" in capsys.readouterr().err
    assert not environments().exists()


@pytest.mark.parametrize(
    ("source", "text"), [("sevennet", "cannot be read as numbers"), ("nequix", "JSON line")]
)
def test_a_file_of_another_kind_is_named(source, text, tmp_path, capsys):
    model = tmp_path / "some.model"
    model.write_bytes(b"PK\x03\x04 something else")
    arguments = ["import", str(model), "--from", source, "-o", str(tmp_path / "x.safetensors")]
    assert main(arguments) == 2
    assert text in capsys.readouterr().err


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match="no model at"):
        import_model(tmp_path / "none.nqx", "nequix", tmp_path / "a.safetensors")
