"""TorchScript files: same numbers, readable manifest, clear refusals."""

import json
import zipfile

import pytest
import torch
from tpcalc.errors import InputError
from tpcalc.export import export_potential, load_exported
from tpcalc.potential import energy_and_edge_gradient
from tpcalc.tensor_products import VARIANTS, variant_class

from small import random_potential
from test_potential import cluster

EXACT = [v for v in VARIANTS if variant_class(v).exact]


@pytest.mark.parametrize(
    "variant", [v for v in EXACT if v.split("/")[0] in ("cg", "shared", "gaunt")]
)
def test_exported_equals_eager(variant, tmp_path):
    potential = random_potential(variant.split("/")[0])
    species, edge_index, vectors, _ = cluster()
    expected, g_expected = energy_and_edge_gradient(potential, species, edge_index, vectors, 7)
    path = tmp_path / "small.pt"
    manifest = export_potential(potential, path, dtype="float64", variant=variant)
    assert potential.variant.endswith("/reference")  # the exporter works on a copy
    module, stored = load_exported(path)
    assert stored == manifest
    assert stored["variant"] == variant
    assert stored["algorithm_class"] != "Convolution"
    for _ in range(3):  # the profiling executor rewrites the graph on the first calls
        energies, g = energy_and_edge_gradient(module, species, edge_index, vectors, 7)
        torch.testing.assert_close(energies, expected, atol=1e-12, rtol=1e-12)
        torch.testing.assert_close(g, g_expected, atol=1e-12, rtol=1e-12)
    none = torch.zeros(2, 0, dtype=torch.long)
    alone = module(species[:1], none, vectors[:0], 1)
    assert abs(alone.item() - potential.shifts[species[0]].item()) < 1e-12


def test_single_precision_file(tmp_path):
    potential = random_potential()
    species, edge_index, vectors, _ = cluster()
    manifest = export_potential(potential, tmp_path / "s.pt")
    assert manifest["dtype"] == "float32"
    assert manifest["halo"] is True
    module, _ = load_exported(tmp_path / "s.pt")
    energies = module(species, edge_index, vectors.float(), 7)
    assert energies.dtype == torch.float64
    assert (energies - potential(species, edge_index, vectors, 7)).abs().max() < 1e-5


def test_manifest_is_json_inside_the_archive(tmp_path):
    export_potential(random_potential(), tmp_path / "s.pt")
    with zipfile.ZipFile(tmp_path / "s.pt") as archive:
        name = next(n for n in archive.namelist() if n.endswith("manifest.json"))
        assert json.loads(archive.read(name))["species"] == ["H", "C", "O"]


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("x.pth", {}, "must end in .pt"),
        ("none/x.pt", {}, "no folder"),
        ("x.pt", {"dtype": "float16"}, "unknown dtype 'float16'"),
        ("x.pt", {"variant": "cg/spares"}, "unknown variant 'cg/spares'; did you mean 'cg/sparse'"),
    ],
)
def test_export_errors_leave_nothing_behind(name, options, sentence, tmp_path):
    with pytest.raises(InputError, match=sentence):
        export_potential(random_potential(), tmp_path / name, **options)
    assert list(tmp_path.iterdir()) == []


def test_foreign_file_is_refused(tmp_path):
    path = tmp_path / "x.pt"
    for content in (b"", b"not a zip", b"PK\x03\x04 broken"):
        path.write_bytes(content)
        with pytest.raises(InputError, match="is no exported potential"):
            load_exported(path)
    with pytest.raises(InputError, match="is no exported potential"):
        load_exported(tmp_path / "absent.pt")
