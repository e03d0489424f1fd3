"""MACE models: tiny ones against stored results of mace itself; published shapes with mace."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from e3nn.o3 import Irrep, Irreps
from tests.importers.originals import original_python
from tpcalc import TPCalculator
from tpcalc.errors import InputError
from tpcalc.importers import foreign, mace
from tpcalc.importers.symmetric import change_of_paths
from tpcalc.tensor_products.symmetric.cg import u_tensors

HERE = Path(__file__).parent
HEADS = {"tiny_heads": "scan", "tiny_density": None}


def systems() -> list[Atoms]:
    """Water, a triclinic crystal of three elements, a pair close enough for ZBL, an atom."""
    water = molecule("H2O")
    water.rattle(0.05, seed=1)
    crystal = bulk("Si", "diamond", a=5.2) * (1, 1, 2)
    crystal.numbers[:] = [14, 8, 1, 14]
    crystal.set_cell(crystal.cell + 0.1 * np.arange(9).reshape(3, 3), scale_atoms=True)
    crystal.rattle(0.1, seed=2)
    close = Atoms("SiO", [[0, 0, 0], [0.3, 0.5, 0.9]])
    return [water, crystal, close, Atoms("O")]


def assert_equal(potential, structures, expected, energy=1e-9, forces=1e-8, stress=1e-9):
    """Energy per atom, forces, stress of each structure."""
    for atoms, theirs in zip(structures, expected):
        atoms.calc = TPCalculator(potential, dtype="float64", skin=0.0)
        n = len(atoms)
        assert atoms.get_potential_energy() / n == pytest.approx(theirs["energy"] / n, abs=energy)
        assert np.abs(atoms.get_forces() - theirs["forces"]).max() < forces
        if "stress" in theirs:
            assert np.abs(atoms.get_stress(voigt=False) - theirs["stress"]).max() < stress


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("variant", ["cg/reference", "cg/grouped"])
def test_tiny_models_equal_mace(kind, variant):
    given, arrays = foreign.read_handover(HERE / f"{kind}.npz")
    potential = mace.convert(given, arrays, HEADS[kind], variant)
    assert_equal(potential, systems(), json.loads((HERE / f"{kind}.json").read_text()))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"class": "AtomicDipolesMACE"}, "AtomicDipolesMACE"),
        ({"radial": "GaussianBasis"}, "GaussianBasis"),
        ({"extras": ["interactions", "joint_embedding"]}, "joint_embedding"),
        ({"distance_transform": "SoftTransform"}, "SoftTransform"),
        ({"edge_irreps": "1x0e+1x1e"}, "edge irreps"),
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
@pytest.mark.parametrize("kind", ["off_small", "off_medium", "mpa_medium"])
def test_published_shapes_equal_mace(kind, tmp_path):
    python = original_python("mace")
    path = tmp_path / f"{kind}.model"
    environment = dict(os.environ, TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD="1")
    command = [python, str(HERE / "make_mace.py"), kind, str(path)]
    subprocess.run(command, check=True, env=environment)
    potential, _ = mace.load(path, python)
    structures = systems()
    if kind != "mpa_medium":
        for atoms in structures:
            atoms.numbers[atoms.numbers == 14] = 6
    expected = foreign.evaluate_original(path, "mace", structures, python)
    # mace keeps its ZBL constants in float32 (a_exp 0.300000012): read from the file as they are
    assert_equal(potential.swap("cg/grouped"), structures, expected)
