"""Potential: what it is built from, ghosts, energy sums, swaps."""

import pytest
import torch
from tpcalc.errors import InputError
from tpcalc.potential import (
    build_potential,
    energy_and_edge_gradient,
    forces_from_edges,
    virial_from_edges,
)

from small import SPECIES, random_potential

F64 = torch.float64
CONFIG = {"architecture": "nequip", "function": "cg", "species": ["H", "C"], "cutoff": 4.0}


def cluster(num_atoms=7, cutoff=4.0):
    positions = torch.randn(num_atoms, 3, dtype=F64) * 1.6
    species = torch.randint(0, len(SPECIES), (num_atoms,))
    near = (torch.cdist(positions, positions) < cutoff) & ~torch.eye(num_atoms, dtype=torch.bool)
    edge_index = torch.stack(torch.where(near))
    return species, edge_index, positions[edge_index[1]] - positions[edge_index[0]], positions


@pytest.mark.parametrize("function", ["cg", "shared", "gaunt"])
def test_forces_sum_to_zero_and_virial_is_symmetric(function):
    potential = random_potential(function)
    species, edge_index, vectors, positions = cluster()
    energies, g = energy_and_edge_gradient(potential, species, edge_index, vectors, 7)
    forces = forces_from_edges(g, edge_index, 7)
    assert energies.dtype == F64
    assert forces.sum(0).abs().max() < 1e-12
    virial = virial_from_edges(g, vectors)  # rotational invariance makes it symmetric
    torch.testing.assert_close(virial, virial.T, atol=1e-10, rtol=0)
    torch.testing.assert_close(virial, positions.T @ forces, atol=1e-10, rtol=0)


def test_one_layer_sees_ghosts_as_it_sees_atoms():
    """n_local < n_all: the energy of the first atoms does not need the others' energy."""
    potential = random_potential(num_layers=1)
    species, edge_index, vectors, _ = cluster()
    all_energies = potential(species, edge_index, vectors, 7)
    keep = edge_index[0] < 3
    local = potential(species, edge_index[:, keep], vectors[keep], 3)
    torch.testing.assert_close(local, all_energies[:3], atol=1e-12, rtol=0)


def test_atom_without_edges_has_its_shift():
    potential = random_potential()
    species = torch.arange(3)
    none = torch.zeros(2, 0, dtype=torch.long)
    energies = potential(species, none, torch.zeros(0, 3, dtype=F64), 3)
    assert (energies - potential.shifts).abs().max() < 1e-12
    empty = potential(species[:0], none, torch.zeros(0, 3, dtype=F64), 0)
    assert empty.shape == (0,)


def test_shifts_stay_double_in_single_precision():
    potential = random_potential()
    species, edge_index, vectors, _ = cluster()
    expected = potential(species, edge_index, vectors, 7)
    potential.set_dtype(torch.float32)
    assert potential.dtype == torch.float32
    assert potential.shifts.dtype == F64
    single = potential(species, edge_index, vectors.float(), 7)
    assert (single - expected).abs().max() < 1e-5  # a float32 sum near -2000 eV errs by 1e-4


def test_every_function_and_parity_of_hidden_irreps_builds():
    for function in ("cg", "shared", "gaunt"):
        for hidden in ("4x0e", "4x0e+4x1o", "4x0e+4x0o+4x1o+4x1e+4x2e"):
            potential = random_potential(function, hidden_irreps=hidden, num_layers=3)
            species, edge_index, vectors, _ = cluster()
            assert torch.isfinite(potential(species, edge_index, vectors, 7)).all()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"hidden_irrep": "4x0e"}, "unknown key of the potential config 'hidden_irrep'; did you"),
        ({"architecture": "nequipp"}, "unknown architecture 'nequipp'; did you mean 'nequip'"),
        ({"function": "gant"}, "unknown function 'gant'; did you mean 'gaunt'"),
        ({"species": None}, "lacks 'species'"),
        ({"shifts": {"O": -1.0}}, "unknown element of the energy shifts 'O'; known: H, C"),
    ],
)
def test_config_errors(change, sentence):
    config = {k: v for k, v in {**CONFIG, **change}.items() if v is not None}
    with pytest.raises(InputError, match=sentence):
        build_potential(config)


def test_swap_refuses_another_function():
    potential = random_potential("shared")
    with pytest.raises(InputError, match="'cg/e3nn' computes another function than 'shared'"):
        potential.swap("cg/e3nn")
    assert potential.swap("shared/edge_matrix").variant == "shared/edge_matrix"
    assert potential.model.layers[0].conv.algorithm_class == "EdgeMatrixConvolution"


def test_swap_moves_no_weight():
    potential = random_potential("cg")
    before = {k: v.clone() for k, v in potential.state_dict().items()}
    for variant in ("cg/e3nn", "cg/sparse", "cg/reference"):
        after = potential.swap(variant).state_dict()
        assert list(after) == list(before)
        assert all(torch.equal(after[k], before[k]) for k in before)
