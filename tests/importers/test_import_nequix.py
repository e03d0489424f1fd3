"""Nequix-MP-1 against its reference file; a small file of that format; damaged files."""

import io
import json

import numpy as np
import pytest
from ase.build import bulk
from tpcalc import TPCalculator
from tpcalc.errors import InputError
from tpcalc.importers import nequix
from tpcalc.verify import worst_differences


def probe(name):
    if name == "Si2_pert":
        atoms = bulk("Si", "diamond", a=5.43)
        atoms.positions[0] += [0.1, 0.05, -0.05]
        return atoms
    atoms = bulk("Cu", "fcc", a=3.61, cubic=True) * (2, 2, 2)
    atoms.rattle(0.05, seed=1)
    return atoms


@pytest.mark.data
def test_nequix_mp_1_equals_its_reference(data_dir):
    potential, extra = nequix.load(data_dir / "foreign" / "nequix-mp-1.nqx")
    reference = json.loads((data_dir / "foreign" / "nequix-mp-1.reference.json").read_text())
    potential.swap("cg/grouped")
    assert extra["licence"].startswith("MIT")
    for name, expected in reference["systems"].items():
        atoms = probe(name)
        atoms.calc = TPCalculator(potential, dtype="float64")
        n = len(atoms)
        assert atoms.get_potential_energy() / n == pytest.approx(expected["E"] / n, abs=1e-9)
        assert np.abs(atoms.get_forces() - expected["F"]).max() < 1e-8
        assert np.abs(atoms.get_stress(voigt=False) - expected["S"]).max() < 1e-9


@pytest.mark.data
@pytest.mark.parametrize("variant", ["cg/e3nn", "cg/fused", "cg/so2"])
def test_swaps_of_nequix_mp_1_are_exact(data_dir, variant):
    potential, _ = nequix.load(data_dir / "foreign" / "nequix-mp-1.nqx")
    potential = potential.of_species(["Si", "Cu"])
    structures = [probe(name) for name in ("Si2_pert", "Cu32")]
    results, expected = (
        TPCalculator(potential, name, dtype="float64").evaluate(structures)
        for name in (variant, "cg/grouped")
    )
    worst = worst_differences(results, expected)
    assert max(worst.values()) < 1e-10
    assert min(np.abs(e["forces"]).max() for e in expected) > 0.1


def write_small(path, seed=0, **changes):
    """A two-layer model in the format of .nqx, with random weights."""
    config = {
        "atomic_numbers": [1, 8], "atom_energies": {"1": -1.0, "8": -2.0}, "cutoff": 4.0,
        "hidden_irreps": "4x0e + 2x1o", "lmax": 1, "n_layers": 2, "radial_basis_size": 3,
        "radial_mlp_size": 5, "radial_mlp_layers": 1, "radial_polynomial_p": 6.0,
        "avg_n_neighbors": 9.0, "scale": 0.5, "shift": 0.1, "layer_norm": True,
        "index_weights": False, **changes,
    }  # fmt: skip
    shapes = [
        (2,),
        # layer 0: 2x0e -> 2x0e + 2x1o -> gate input 6x0e + 2x1o
        (3, 5), (5, 4), (2, 2), (2, 6), (2, 2), (2, 6), (6,), (2,),
        # layer 1: 4x0e + 2x1o -> 6x0e -> 4x0e
        (3, 5), (5, 6), (4, 4), (2, 2), (6, 4), (4, 4), (4,),
        (4, 1),
    ]  # fmt: skip
    rng = np.random.default_rng(seed)
    stream = io.BytesIO()
    for shape in shapes:
        np.save(stream, rng.normal(size=shape).astype(np.float32))
    path.write_bytes(json.dumps(config).encode() + b"\n" + stream.getvalue() + b"\n")
    return path


def test_small_file_converts_and_an_isolated_atom_has_its_energy(tmp_path):
    potential, _ = nequix.load(write_small(tmp_path / "small.nqx"))
    atoms = bulk("NaCl", "rocksalt", a=3.9)
    atoms.numbers[:] = [1, 8]
    atoms.calc = TPCalculator(potential, dtype="float64")
    assert np.abs(atoms.get_forces().sum(0)).max() < 1e-10
    assert potential.config["shifts"]["H"] == potential.shifts[0].item()


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (lambda raw: raw[:-200], "arrays; fetch it again"),
        (lambda raw: b"PK\x03\x04" + raw, "JSON line"),
        (lambda raw: raw.replace(b'"cutoff"', b'"kutoff"'), "lacks cutoff"),
        (lambda raw: raw.replace(b'"index_weights": false', b'"index_weights": true'), "index"),
        (lambda raw: raw.replace(b"4x0e", b"5x0e"), "numbers|weights|shape"),
    ],
)
def test_damage_is_named(tmp_path, damage, text):
    path = write_small(tmp_path / "small.nqx")
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=text):
        nequix.load(path)


def test_pickles_are_refused(tmp_path):
    path = write_small(tmp_path / "small.nqx")
    line, _, _ = path.read_bytes().partition(b"\n")
    stream = io.BytesIO()
    np.save(stream, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    path.write_bytes(line + b"\n" + stream.getvalue())
    with pytest.raises(InputError, match="0 of"):
        nequix.load(path)
