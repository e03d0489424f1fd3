"""The mace architecture: forces, symmetry, export, isolated atoms, closed forms of its parts."""

import numpy as np
import pytest
import torch
from ase.data import atomic_numbers, covalent_radii
from e3nn.o3 import rand_matrix
from tests.small import SPECIES, crystal, force_by_differences
from tpcalc import TPCalculator
from tpcalc.errors import InputError
from tpcalc.export import scripted
from tpcalc.nn.elements import ATOMIC_NUMBERS, COVALENT_RADII
from tpcalc.nn.radial import AgnesiTransform
from tpcalc.nn.zbl import Zbl
from tpcalc.potential import build_potential
from tpcalc.storage import load_potential, save_potential

DENSITY = {
    "first_block": "residual",
    "normalization": "density",
    "radial_transform": "agnesi",
    "pair_repulsion": "zbl",
    "cutoff_at": "weights",
}
KINDS = [{}, DENSITY, {"block": "plain", "num_layers": 3, "hidden_irreps": "4x0e"}]


def small_mace(seed=0, **config):
    torch.manual_seed(seed)
    config = {
        "architecture": "mace", "function": "cg", "species": SPECIES, "cutoff": 4.0,
        "hidden_irreps": "4x0e+4x1o", "lmax": 2, "correlation": 3, "radial_hidden": [8],
        "shifts": {"H": -13.6, "C": -1030.0}, **config,
    }  # fmt: skip
    return build_potential(config).eval().requires_grad_(False)


@pytest.mark.parametrize("kind", KINDS)
def test_forces_swap_export_and_isolated_atoms(kind):
    potential = small_mace(**kind)
    atoms = crystal()
    atoms.calc = TPCalculator(potential, dtype="float64", skin=0.0)
    energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    assert forces[1, 0] == pytest.approx(force_by_differences(atoms), abs=1e-6)
    atoms.calc.swap("cg/grouped")
    assert atoms.get_potential_energy() == pytest.approx(energy, abs=1e-9)
    assert np.abs(atoms.get_forces() - forces).max() < 1e-10
    none = torch.zeros(2, 0, dtype=torch.long)
    for module in (potential, scripted(potential)):
        alone = module(torch.arange(3), none, torch.zeros(0, 3, dtype=torch.float64), 3)
        assert torch.allclose(alone, potential.shifts, atol=1e-12)


def test_rotation_and_inversion_leave_the_energy():
    atoms = crystal()
    atoms.calc = TPCalculator(small_mace(**DENSITY), dtype="float64")
    forces = atoms.get_forces()
    turn = -rand_matrix(dtype=torch.float64).numpy()
    turned = atoms.copy()
    turned.set_cell(atoms.cell @ turn.T, scale_atoms=True)
    turned.calc = atoms.calc
    assert np.allclose(turned.get_forces(), forces @ turn.T, atol=1e-9)


def test_saved_and_loaded_again(tmp_path):
    potential = small_mace(**DENSITY)
    save_potential(potential, tmp_path / "mace.safetensors")
    again = load_potential(tmp_path / "mace.safetensors", variant="cg/reference")
    energies = []
    for p in (potential, again):
        atoms = crystal()
        atoms.calc = TPCalculator(p, dtype="float64")
        energies.append(atoms.get_potential_energy())
    assert energies[0] == energies[1]


def test_radii_are_ases():
    for symbol, radius in COVALENT_RADII.items():
        assert radius == covalent_radii[atomic_numbers[symbol]]
        assert ATOMIC_NUMBERS[symbol] == atomic_numbers[symbol]


def test_zbl_of_a_close_pair_is_coulomb_times_screening():
    r = 0.4
    species = torch.tensor([1]), torch.tensor([0])  # C next to H
    lengths = torch.tensor([r], dtype=torch.float64)
    energy = Zbl(["H", "C"], p=6)(lengths, *species, torch.tensor([0]), 1).item()
    a = 0.4543 * 0.529 / (1 + 6**0.3)
    phi = sum(c * np.exp(-d * r / a) for c, d in
              [(0.1818, 3.2), (0.5099, 0.9423), (0.2802, 0.4028), (0.02817, 0.2016)])  # fmt: skip
    u = r / (0.31 + 0.76)
    envelope = 1 - 28 * u**6 + 48 * u**7 - 21 * u**8
    assert energy == pytest.approx(0.5 * 14.3996 * 6 / r * phi * envelope, rel=1e-12)


def test_agnesi_runs_from_one_to_zero_and_knows_the_bond():
    transform = AgnesiTransform(["Si"])
    zero = torch.zeros(3, dtype=torch.long)
    t = transform(torch.tensor([1e-6, 1.11, 20.0], dtype=torch.float64), zero, zero)
    assert t[0] == pytest.approx(1.0, abs=1e-4)
    assert t[1] == pytest.approx(1 / (1 + 1.0805 / 2))
    assert 0 < t[2] < t[1]


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ({"hidden_irreps": "4x0e+3x1o"}, "one multiplicity"),
        ({"block": "residul"}, "did you mean 'residual'"),
        ({"pair_repulsion": "zbl", "species": ["Og"]}, "no covalent radius"),
    ],
)
def test_wrong_options_are_named(option, text):
    with pytest.raises(InputError, match=text):
        small_mace(**{**option, "shifts": {}})
