"""Feature interaction between the layers of nequip: every function, every face."""

import numpy as np
import pytest
import torch
from e3nn.o3 import Irreps, rand_matrix
from tests.small import crystal, force_by_differences, random_potential
from tpcalc import TPCalculator
from tpcalc.errors import InputError
from tpcalc.export import export_potential, load_exported
from tpcalc.nn.node_product import NodeProduct, operand_irreps
from tpcalc.o3.layout import mul_ir_index
from tpcalc.storage import load_potential, save_potential
from tpcalc.tensor_products import (
    VARIANTS,
    functions,
    interaction_variant,
    tensor_product,
    variant_class,
)

F64 = torch.float64
INTERACTION = [v for v in VARIANTS if "interaction" in variant_class(v).places]
BASIC = {"cg": "cg/sparse", "shared": "shared/edge_matrix", "gaunt": "gaunt/grid"}


def made(irreps, variant, channels=2):
    operand = operand_irreps(irreps, channels)
    module = NodeProduct(irreps, tensor_product(variant, operand, operand, operand))
    return module, torch.randn(7, irreps.dim, dtype=F64)


@pytest.mark.parametrize("variant", VARIANTS)
def test_places_are_what_the_products_accept(variant):
    """`places` is a promise: a product of two operands with channels is built where it says so."""
    pair = ("2x0e+2x1o", "2x0e+2x1o")
    if "interaction" in variant_class(variant).places:
        assert tensor_product(variant, *pair).channel_mode == "uuu"
    else:
        with pytest.raises(InputError):
            tensor_product(variant, *pair)


@pytest.mark.parametrize("variant", INTERACTION)
def test_node_product_is_equivariant_and_nonlinear(variant):
    """Rotation and inversion; each node by itself; even and odd multiplicities may differ."""
    irreps = Irreps("2x0o+4x0e+3x1o+2x2e+2x1e").sort().irreps
    module, x = made(irreps, variant)
    order = torch.argsort(mul_ir_index(irreps))
    for sign in (1.0, -1.0):
        turn = rand_matrix(dtype=F64)
        turn = torch.linalg.qr(turn)[0]
        before = torch.get_default_dtype()
        torch.set_default_dtype(F64)
        try:
            d = irreps.D_from_matrix(turn * torch.det(turn) * sign)
        finally:
            torch.set_default_dtype(before)
        d = d[order][:, order]
        torch.testing.assert_close(module(x @ d.T), module(x) @ d.T, atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(module(x[2:3]), module(x)[2:3], atol=1e-12, rtol=1e-12)
    added = [module(s * x) - s * x for s in (1.0, 2.0)]
    assert added[0].abs().max() > 1e-3
    torch.testing.assert_close(added[1], 4 * added[0], atol=1e-10, rtol=1e-10)  # quadratic


def test_irreps_the_product_cannot_make_pass_unchanged():
    assert made(Irreps("3x1o+2x2e"), "gaunt/grid")[0].complete  # 1 x 2 -> 1, 1 x 1 -> 2
    assert made(Irreps("3x0e+3x3o"), "gaunt/grid")[0].complete
    irreps = Irreps("3x0o+3x1e")  # pseudo alone: products are no pseudo-functions
    module, x = made(irreps, "cg/sparse")
    assert not module.complete
    kept = module(x)
    assert torch.equal(kept[:, :3], x[:, :3])
    assert not torch.equal(kept[:, 3:], x[:, 3:])


@pytest.mark.parametrize("function", functions())
def test_in_a_network(function, tmp_path):
    """Conservative and equivariant forces, an isolated atom, the file, the export."""
    potential = random_potential("cg", interaction=function, num_layers=2).swap("cg/sparse")
    assert sum(isinstance(layer.interaction, NodeProduct) for layer in potential.model.layers) == 1
    atoms = crystal()
    atoms.calc = TPCalculator(potential, dtype="float64", skin=0.0)
    forces = atoms.get_forces()
    assert forces[1, 0] == pytest.approx(force_by_differences(atoms), abs=1e-6)
    for sign in (1.0, -1.0):
        turn = sign * rand_matrix(dtype=F64).numpy()
        turned = atoms.copy()
        turned.set_cell(atoms.cell @ turn.T, scale_atoms=True)
        turned.calc = atoms.calc
        assert np.allclose(turned.get_forces(), forces @ turn.T, atol=1e-8)
    none = torch.zeros(0, 3, dtype=F64)
    alone = potential(torch.arange(3), torch.zeros(2, 0, dtype=torch.long), none, 3)
    assert torch.allclose(alone, potential.shifts, atol=1e-12)
    save_potential(potential, tmp_path / "p.safetensors")
    again = load_potential(tmp_path / "p.safetensors")
    assert again.config["interaction"] == function
    export_potential(again, tmp_path / "p.pt", dtype="float64", variant="cg/sparse")
    module, _ = load_exported(tmp_path / "p.pt")
    species = torch.tensor([0, 1, 2, 1])
    edges = torch.tensor([[0, 0, 1, 2, 3], [1, 2, 0, 3, 1]])
    vectors = torch.randn(5, 3, dtype=F64)
    expected = potential(species, edges, vectors, 4)
    for _ in range(3):
        torch.testing.assert_close(module(species, edges, vectors, 4), expected)
    without = random_potential("cg", num_layers=2)
    assert not torch.allclose(without(species, edges, vectors, 4), expected, atol=1e-4)


@pytest.mark.parametrize("function", BASIC)
def test_swaps_exchange_the_interaction_too(function):
    potential = random_potential(function, interaction=function)
    species = torch.tensor([0, 1, 2])
    edges = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
    vectors = torch.randn(4, 3, dtype=F64)
    expected = potential(species, edges, vectors, 3)
    name = type(potential.model.layers[1].interaction.product).__name__
    assert name.endswith("Reference")
    for variant in [v for v in VARIANTS if v.startswith(f"{function}/")]:
        if not variant_class(variant).exact or "fused" in variant:
            continue
        potential.swap(variant)
        torch.testing.assert_close(potential(species, edges, vectors, 3), expected)
        product = potential.model.layers[1].interaction.product
        assert type(product) is variant_class(interaction_variant(function, variant))
        if "interaction" in variant_class(variant).places:
            assert type(product) is variant_class(variant)


def test_terms_and_channels_of_the_interaction():
    potential = random_potential("cg", interaction="gaunt:2", interaction_channels=3)
    product = potential.model.layers[1].interaction.product
    assert product.terms == 2
    assert product.mul == 3


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ({"interaction": "gant"}, "unknown interaction 'gant'; did you mean 'gaunt'"),
        ({"interaction": "cg/sparse"}, "unknown interaction 'cg/sparse'"),
        ({"interaction": "gaunt:0"}, "'0' terms"),
        ({"interaction": "cg", "interaction_channels": 0}, "interaction_channels 0"),
    ],
)
def test_wrong_options_are_named(option, text):
    with pytest.raises(InputError, match=text):
        random_potential("cg", **option)
