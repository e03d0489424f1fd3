"""Options of the nequip architecture that foreign models need, against closed forms."""

import numpy as np
import pytest
import torch
from ase import Atoms
from e3nn.o3 import Irreps, rand_matrix
from tests.small import crystal, force_by_differences, random_potential
from tpcalc import TPCalculator
from tpcalc.errors import InputError
from tpcalc.export import scripted
from tpcalc.nn.cutoff import XplorCutoff
from tpcalc.nn.linear import SpeciesLinear
from tpcalc.nn.norm import RmsNorm
from tpcalc.o3.layout import to_ir_mul, to_mul_ir

FOREIGN = {
    "embedding_channels": 3,
    "self_connection": "common",
    "normalization": "rms",
    "hidden_irreps": ["4x0e+3x1o+2x2e", "4x0e"],
}


def test_grouped_species_linear_is_the_dense_one_to_second_order():
    irreps_in, irreps_out = Irreps("3x0e+2x1o"), Irreps("2x0e+4x1o")
    layer = SpeciesLinear(irreps_in, irreps_out, 12)
    dense = SpeciesLinear(irreps_in, irreps_out, 12)
    dense.dense = True
    dense.load_state_dict(layer.state_dict())
    species = torch.tensor([11, 0, 3, 3, 0, 7])
    one_hot = torch.nn.functional.one_hot(species, 12).double()
    x = torch.randn(6, irreps_in.dim, dtype=torch.float64, requires_grad=True)
    grads = []
    for module in (layer, dense, torch.jit.script(layer)):
        y = module(x, species, one_hot)
        (g,) = torch.autograd.grad((y**3).sum(), x, create_graph=True)
        (h,) = torch.autograd.grad((g**2).sum(), module.weight)
        grads.append((y, g, h))
    for other in grads[1:]:
        for a, b in zip(grads[0], other):
            assert torch.allclose(a, b, atol=1e-10, rtol=1e-12)
    assert not layer.dense
    each = torch.randn(12, irreps_in.dim, dtype=torch.float64)
    assert torch.allclose(layer.each_species(each), dense.each_species(each), atol=1e-12)
    assert layer(x[:0], species[:0], one_hot[:0]).shape == (0, irreps_out.dim)


def test_xplor_has_a_continuous_slope_and_its_ends():
    r = torch.tensor([1.0, 3.5 - 1e-9, 3.5 + 1e-9, 4.0 - 1e-9, 4.1], dtype=torch.float64)
    r.requires_grad_(True)
    f = XplorCutoff(4.0, 3.5)(r)
    (slope,) = torch.autograd.grad(f.sum(), r)
    assert torch.allclose(f, torch.tensor([1.0, 1, 1, 0, 0], dtype=torch.float64), atol=1e-8)
    assert slope.abs().max() < 1e-6
    with pytest.raises(InputError, match="onset"):
        XplorCutoff(4.0, 4.0)


def test_rms_norm_as_written_and_equivariant():
    irreps = Irreps("3x0e+2x1o+1x2e")
    norm = RmsNorm(irreps)
    with torch.no_grad():
        norm.weight.copy_(torch.rand(6))
    x = torch.randn(5, irreps.dim, dtype=torch.float64)
    blocks = [to_mul_ir(x, irreps)[:, s] for s in irreps.slices()]
    size = sum((b**2).sum(1) / (ir.dim**2 * 3) for b, (_, ir) in zip(blocks, irreps))
    assert torch.allclose(norm(x)[:, :3], x[:, :3] * norm.weight[:3] / size.sqrt()[:, None])
    d = irreps.D_from_matrix(rand_matrix(dtype=torch.float64)).double()
    turned = to_ir_mul(to_mul_ir(x, irreps) @ d.T, irreps)
    expected = to_ir_mul(to_mul_ir(norm(x), irreps) @ d.T, irreps)
    assert torch.allclose(norm(turned), expected, atol=1e-5)


@pytest.mark.parametrize("extra", [{}, {"cutoff_function": "xplor", "cutoff_onset": 3.0}])
def test_foreign_options_give_conservative_forces_and_script(extra):
    potential = random_potential("cg", **FOREIGN, **extra)
    atoms = crystal()
    atoms.calc = TPCalculator(potential, dtype="float64", skin=0.0)
    forces = atoms.get_forces()
    assert forces[1, 0] == pytest.approx(force_by_differences(atoms), abs=1e-6)
    assert scripted(potential) is not None
    alone = torch.zeros(0, 3, dtype=torch.float64)
    energy = potential(torch.arange(3), torch.zeros(2, 0, dtype=torch.long), alone, 3)
    assert torch.allclose(energy, potential.shifts, atol=1e-12)


@pytest.mark.parametrize("scale", [3.0, {"H": 0.5, "C": 2.0, "O": 4.0}])
def test_zbl_is_in_ev_whatever_the_scale(scale):
    """The repulsion of C and O at 0.6 Å, by the formula of LAMMPS' manual."""
    potential, bare = (
        random_potential("cg", scale=scale, pair_repulsion=kind) for kind in ("zbl", "none")
    )
    pair = Atoms("CO", [[0, 0, 0], [0, 0, 0.6]])
    with_zbl, without = (TPCalculator(p, dtype="float64").evaluate([pair])[0]["energy"]
                         for p in (potential, bare))  # fmt: skip
    x = 0.6 * (6**0.23 + 8**0.23) / 0.46850
    terms = [(0.18175, 3.1998), (0.50986, 0.94229), (0.28022, 0.4029), (0.02817, 0.20162)]
    phi = sum(c * np.exp(-a * x) for c, a in terms)
    u = 0.6 / 4.0
    envelope = 1 - 28 * u**6 + 48 * u**7 - 21 * u**8
    expected = 14.399645 * 6 * 8 / 0.6 * phi * envelope
    assert with_zbl - without == pytest.approx(expected, rel=1e-12)


def test_so3_ignores_parity_but_keeps_rotations():
    potential = random_potential("cg", symmetry="SO3", hidden_irreps="4x0e+4x1e+4x2e")
    atoms = crystal()
    atoms.calc = TPCalculator(potential, dtype="float64")
    turned = atoms.copy()
    turn = rand_matrix(dtype=torch.float64).numpy()
    turned.set_cell(atoms.cell @ turn.T, scale_atoms=True)
    turned.calc = atoms.calc
    before = atoms.get_forces()
    assert np.allclose(turned.get_forces(), before @ turn.T, atol=1e-9)


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ({"self_connection": "commn"}, "did you mean 'common'"),
        ({"hidden_irreps": ["4x0e"]}, "lists 1 layers"),
        ({"hidden_irreps": ["4x0e", "4x0e+2x1o"]}, "readout takes 0e"),
    ],
)
def test_wrong_options_are_named(option, text):
    with pytest.raises(InputError, match=text):
        random_potential("cg", **option)
