"""The file of a potential: a round trip, and one clear sentence for every defect."""

import json
import struct

import pytest
import safetensors.torch
import torch
from tests.small import random_potential
from tpcalc.errors import InputError
from tpcalc.storage import load_potential, read_manifest, save_potential, update_manifest


@pytest.fixture
def stored(tmp_path):
    return save_potential(
        random_potential(), tmp_path / "p.safetensors", licence="MIT", training={"seed": 1}
    )


def energies(potential):
    torch.manual_seed(0)
    vectors = torch.randn(4, 3, dtype=torch.float64).to(potential.dtype)
    edges = torch.tensor([[0, 0, 1, 2], [1, 2, 0, 0]])
    return potential(torch.tensor([0, 1, 2]), edges, vectors, 3)


def edited(path, change):
    """Rewrite the header without touching its sha256."""
    raw = path.read_bytes()
    length = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8 : 8 + length])
    manifest = json.loads(header["__metadata__"]["tpcalc"])
    change(header, manifest)
    header["__metadata__"] = {"tpcalc": json.dumps(manifest)}
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + raw[8 + length :])


def resealed(path, change):
    """The same with a right sha256: a file made by somebody's own writer."""
    from tpcalc import storage

    def seal(header, manifest):
        change(header, manifest)
        table = {k: v for k, v in header.items() if k != "__metadata__"}
        raw = path.read_bytes()
        data = raw[8 + struct.unpack("<Q", raw[:8])[0] :]
        manifest["sha256"] = storage._digest(manifest, table, data)

    edited(path, seal)


def test_round_trip(stored):
    before, after = random_potential(), load_potential(stored)
    assert torch.equal(energies(before), energies(after))
    assert after.config == before.config
    assert after.manifest["licence"] == "MIT"
    assert after.manifest["training"] == {"seed": 1}
    assert read_manifest(stored) == after.manifest
    assert load_potential(stored, variant="cg/sparse").variant == "cg/sparse"


def test_saved_from_any_variant_and_dtype(tmp_path):
    potential = random_potential().swap("cg/sparse").set_dtype(torch.float32)
    path = save_potential(potential, tmp_path / "p.safetensors")
    loaded = load_potential(path)
    assert loaded.dtype == torch.float32
    assert loaded.shifts.dtype == torch.float64
    torch.testing.assert_close(energies(loaded), energies(potential), rtol=0, atol=1e-5)
    assert load_potential(path, dtype="float64").dtype == torch.float64


def test_loading_leaves_the_random_state_alone(stored):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    load_potential(stored)
    assert torch.equal(torch.rand(3), expected)


def test_update_keeps_weights_and_other_entries(stored):
    before = load_potential(stored)
    update_manifest(stored, accuracy={"300K": 12.5})
    after = load_potential(stored)
    assert after.manifest["accuracy"] == {"300K": 12.5}
    assert after.manifest["licence"] == "MIT"
    assert torch.equal(energies(before), energies(after))


def test_unknown_entry_and_values_that_are_not_json(tmp_path):
    path = tmp_path / "p.safetensors"
    with pytest.raises(InputError, match="key of the manifest 'license'; did you mean 'licence'"):
        save_potential(random_potential(), path, license="MIT")
    with pytest.raises(InputError, match="not plain JSON"):
        save_potential(random_potential(), path, accuracy={"x": float("nan")})
    with pytest.raises(InputError, match="no folder"):
        save_potential(random_potential(), tmp_path / "nowhere" / "p.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_weights_that_are_not_finite_are_not_written(tmp_path):
    potential = random_potential()
    potential.model.embedding[0, 0] = float("nan")
    with pytest.raises(InputError, match="'model.embedding' holds values that are not finite"):
        save_potential(potential, tmp_path / "p.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_missing_empty_foreign(tmp_path, stored):
    with pytest.raises(InputError, match="no potential at"):
        load_potential(tmp_path / "none.safetensors")
    empty = tmp_path / "empty.safetensors"
    empty.touch()
    with pytest.raises(InputError, match="is empty"):
        load_potential(empty)
    (tmp_path / "text").write_text("hello, I am not a potential")
    with pytest.raises(InputError, match="is not a safetensors file"):
        load_potential(tmp_path / "text")
    (tmp_path / "short").write_bytes(b"abc")
    with pytest.raises(InputError, match="is not a safetensors file"):
        load_potential(tmp_path / "short")
    torch.save({"a": 1}, tmp_path / "p.pt")
    with pytest.raises(InputError, match="is a zip archive"):
        load_potential(tmp_path / "p.pt")
    safetensors.torch.save_file({"a": torch.ones(1)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="without a tpcalc manifest"):
        load_potential(tmp_path / "other.safetensors")


@pytest.mark.parametrize("part", [0.999, 0.9, 0.5, 0.1, 0.01])
def test_truncated(stored, part):
    raw = stored.read_bytes()
    stored.write_bytes(raw[: int(len(raw) * part)])
    with pytest.raises(InputError, match="cut short"):
        load_potential(stored)


def test_every_flipped_byte_is_noticed(stored):
    raw = bytearray(stored.read_bytes())
    for position in range(0, len(raw), max(1, len(raw) // 150)):
        damaged = bytearray(raw)
        damaged[position] ^= 0x11
        stored.write_bytes(damaged)
        with pytest.raises(InputError):
            load_potential(stored)


def test_altered_weights_and_altered_manifest(stored):
    raw = bytearray(stored.read_bytes())
    raw[-3] ^= 1
    copy = stored.with_name("weights.safetensors")
    copy.write_bytes(raw)
    with pytest.raises(InputError, match="was altered after it was written"):
        load_potential(copy)
    edited(stored, lambda header, manifest: manifest.update(licence="none"))
    with pytest.raises(InputError, match="was altered after it was written"):
        load_potential(stored)


CASES = [
    (lambda h, m: m.update(acuracy={}), "unknown key 'acuracy'.*did you mean 'accuracy'"),
    (lambda h, m: m.pop("cutoff"), "lacks 'cutoff'"),
    (lambda h, m: m.update(format_version=99), "format version 99"),
    (lambda h, m: m.update(species="H"), "'species' in its manifest is a str"),
    (lambda h, m: m.update(cutoff=9.0), "cutoff 9.0 is not the config's 4.0"),
    (lambda h, m: m["config"].update(num_layer=3), "did you mean 'num_layers'"),
    (lambda h, m: m["config"].update(architecture="nequipp"), "did you mean 'nequip'"),
    (lambda h, m: m["config"].update(radial_hidden=[10**9]), "more than 1e6 is not built"),
    (lambda h, m: m["config"].update(radial_hidden=[17]), "has shape .* the architecture needs"),
    (lambda h, m: m["config"].update(num_layers=1), "unknown tensor 'model.layers.1"),
    (lambda h, m: m["config"].update(num_layers=3), "is missing|has shape"),
    (lambda h, m: m["config"].update(hidden_irreps=3.5), "cannot be built|irreps"),
    (lambda h, m: h["shifts"].update(dtype="I64"), "has dtype 'I64'; allowed: F64, F32"),
    (lambda h, m: h["shifts"].update(shape=[7]), "is damaged"),
    (lambda h, m: m.update(dtype="float16"), "unknown dtype 'float16'"),
]


@pytest.mark.parametrize(("change", "sentence"), CASES)
def test_schema(stored, change, sentence):
    resealed(stored, change)
    with pytest.raises(InputError, match=sentence):
        load_potential(stored)


def test_weights_that_are_not_finite_are_not_read(stored):
    raw = stored.read_bytes()
    length = struct.unpack("<Q", raw[:8])[0]
    offset = json.loads(raw[8 : 8 + length])["model.embedding"]["data_offsets"][0]
    start = 8 + length + offset
    stored.write_bytes(raw[:start] + struct.pack("<d", float("inf")) + raw[start + 8 :])
    resealed(stored, lambda h, m: None)
    with pytest.raises(InputError, match="holds values that are not finite"):
        load_potential(stored)


def test_unknown_dtype_argument(stored):
    with pytest.raises(InputError, match="unknown dtype 'float46'"):
        load_potential(stored, dtype="float46")
