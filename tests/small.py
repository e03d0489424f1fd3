"""Small potentials with random, seeded weights; what the tests of the faces run on."""

import numpy as np
import torch
from ase import Atoms
from ase.build import molecule
from tpcalc.potential import build_potential

SPECIES = ["H", "C", "O"]


def random_potential(function="cg", seed=0, **config):
    """Two layers, 4 channels, lmax 2, cutoff 4 Å; forces of a few eV/Å."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        potential = build_potential(
            {
                "architecture": "nequip",
                "function": function,
                "species": SPECIES,
                "cutoff": 4.0,
                "hidden_irreps": "4x0e+4x1o+4x2e",
                "lmax": 2,
                "num_layers": 2,
                "radial_hidden": [16],
                "readout_hidden": 8,
                "scale": 1.0,
                "shifts": {"H": -13.6, "C": -1030.0, "O": -2040.0},
                **config,
            }
        )
    return potential.eval().requires_grad_(False)


MACE_DENSITY = {  # what MACE-MPA-0 has and MACE-OFF23 has not
    "normalization": "density", "radial_transform": "agnesi", "pair_repulsion": "zbl",
    "cutoff_at": "weights",
}  # fmt: skip


def random_mace(**config):
    """Two layers, 4 channels, lmax 2, cutoff 4 Å; ten elements, more than `DENSE_SPECIES`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        potential = build_potential({
            "architecture": "mace", "function": "cg", "cutoff": 4.0, "hidden_irreps": "4x0e+4x1o",
            "species": ["Li", "H", "B", "C", "N", "O", "F", "Si", "S", "Cl"], "lmax": 2,
            "correlation": 2, "radial_hidden": [8], "shifts": {"H": -13.6, "C": -1030.0}, **config,
        }, "cg/fused")  # fmt: skip
    return potential.eval().requires_grad_(False)


def force_by_differences(atoms, atom=1, axis=0, h=1e-4) -> float:
    """-dE/dx of one coordinate by central differences of the energy, with the atoms' calculator."""
    energies = []
    for step in (h, -h):
        moved = atoms.copy()
        moved.positions[atom, axis] += step
        moved.calc = atoms.calc
        energies.append(moved.get_potential_energy())
    return (energies[1] - energies[0]) / (2 * h)


def ethanol(seed=1, noise=0.05) -> Atoms:
    """Ethanol, moved a little off its minimum."""
    atoms = molecule("CH3CH2OH")
    atoms.positions += np.random.default_rng(seed).normal(scale=noise, size=(len(atoms), 3))
    return atoms


def crystal(seed=2, noise=0.05) -> Atoms:
    """Six atoms in a triclinic cell smaller than the cutoff."""
    rng = np.random.default_rng(seed)
    atoms = Atoms(
        "C2H2O2",
        scaled_positions=[
            [0.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, 0.0, 0.1],
            [0.0, 0.5, 0.4], [0.1, 0.1, 0.5], [0.6, 0.5, 0.0],
        ],
        cell=[[3.4, 0, 0], [0.6, 3.6, 0], [0.3, -0.5, 3.8]], pbc=True,
    )  # fmt: skip
    atoms.positions += rng.normal(scale=noise, size=(6, 3))
    return atoms


def agree_to_second_order(out, want, leaves) -> None:
    """Float64 values, gradients (fused, and by ops that can be derived further), second ones."""
    torch.testing.assert_close(out, want, rtol=1e-12, atol=1e-12)
    for again in (False, True):
        grads, wanted = (
            torch.autograd.grad(o.sin().sum(), leaves, retain_graph=True, create_graph=again)
            for o in (out, want)
        )
        for a, b in zip(grads, wanted):
            torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)
    second = [torch.autograd.grad(sum(g.cos().sum() for g in f), leaves) for f in (grads, wanted)]
    for a, b in zip(*second):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
