"""Symmetric contractions against chained products, e3nn's couplings and each other."""

import math

import pytest
import torch
from e3nn import o3
from tpcalc.errors import InputError
from tpcalc.o3.gaunt import gaunt
from tpcalc.o3.layout import to_ir_mul, to_mul_ir
from tpcalc.tensor_products import MANY_BODY, many_body
from tpcalc.tensor_products.symmetric.cg import u_tensors

F64 = torch.float64
IRREPS = "3x0e+3x1o+3x2e"
REFERENCE = {"cg": "cg/u_tensor", "gaunt": "gaunt/reference"}


def pair(variant, *args, **options):
    """The variant and its function's reference with the same weights."""
    product = many_body(variant, *args, **options)
    reference = many_body(REFERENCE[product.function], *args)
    product.load_state_dict(reference.state_dict())
    return product, reference


def atoms(product, n=7):
    species = torch.randint(0, product.num_species, (n,))
    return torch.randn(n, product.irreps_in.dim, dtype=F64), species


@pytest.mark.parametrize("correlation", [1, 2, 3, 4])
@pytest.mark.parametrize("variant", MANY_BODY)
def test_algorithms_of_a_function_agree(variant, correlation):
    irreps = "2x0e+2x1o" if correlation == 4 and variant.startswith("cg") else IRREPS
    product, reference = pair(variant, irreps, "0e+1o", correlation, 3)
    x, species = atoms(product)
    out = product(x, species)
    torch.testing.assert_close(out, reference(x, species), rtol=1e-11, atol=1e-11)
    assert out.is_contiguous()
    assert out.shape == (7, product.irreps_out.dim)


@pytest.mark.parametrize("variant", [v for v in MANY_BODY if v.startswith("gaunt")])
def test_pseudo_features(variant):
    irreps = "2x0e+2x0o+2x1o+2x1e+2x2o"
    product, reference = pair(variant, irreps, "0e+0o+1e+1o", 3, 2)
    x, species = atoms(product)
    torch.testing.assert_close(product(x, species), reference(x, species), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("variant", MANY_BODY)
def test_rotation_and_inversion(variant):
    irreps = "2x0e+2x1o+2x1e+2x2e"
    product = many_body(variant, irreps, "0e+1o+1e", 3, 2)
    x, species = atoms(product)
    before = torch.get_default_dtype()
    torch.set_default_dtype(F64)
    try:
        for matrix in (o3.rand_matrix(), -o3.rand_matrix()):
            d_in = product.irreps_in.D_from_matrix(matrix)
            d_out = product.irreps_out.D_from_matrix(matrix)
            turned = to_ir_mul(to_mul_ir(x, product.irreps_in) @ d_in.T, product.irreps_in)
            out = to_mul_ir(product(x, species), product.irreps_out) @ d_out.T
            found = to_mul_ir(product(turned, species), product.irreps_out)
            torch.testing.assert_close(found, out, rtol=1e-10, atol=1e-10)
    finally:
        torch.set_default_dtype(before)


@pytest.mark.parametrize("variant", MANY_BODY)
def test_gradients_script_float32_and_empty(variant):
    product = many_body(variant, "2x0e+2x1o", "0e+1o", 3, 2)
    x, species = atoms(product, 3)
    x.requires_grad_(True)
    assert torch.autograd.gradcheck(lambda x: product(x, species), (x,))
    assert torch.autograd.gradgradcheck(lambda x: product(x, species), (x,))
    scripted = torch.jit.script(product)
    expected = product(x, species)
    for _ in range(3):
        torch.testing.assert_close(scripted(x, species), expected)
    single = product.float()(x.float(), species)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single, expected.float(), rtol=1e-4, atol=1e-4)
    assert product(x.float()[:0], species[:0]).shape == (0, product.irreps_out.dim)


@pytest.mark.parametrize("order", [2, 3])
def test_u_tensors_are_chained_products(order):
    """Every U contracted with x is the loop over e3nn's couplings, one product at a time."""
    irreps = o3.Irreps("0e+1o+2e")
    keep = [o3.Irrep("0e"), o3.Irrep("1o"), o3.Irrep("2e")]
    x = torch.randn(9, dtype=F64)
    parts = [(ir, x[s]) for (_, ir), s in zip(irreps, irreps.slices())]
    states = list(parts)
    for _ in range(order - 1):
        longer = []
        for left, value in states:
            for ir, part in parts:
                for out in left * ir:
                    c = o3.wigner_3j(out.l, left.l, ir.l, dtype=F64) * math.sqrt(out.dim)
                    longer.append((out, torch.einsum("kab,a,b->k", c, value, part)))
        states = sorted(longer, key=lambda item: item[0])
    for ir, u in zip(keep, u_tensors(irreps, keep, order)):
        for _ in range(order):
            u = torch.einsum("ki...p,i->k...p", u, x) if u.dim() > 3 else torch.einsum(
                "kip,i->kp", u, x
            )  # fmt: skip
        loop = torch.stack([value for out, value in states if out == ir], -1)
        torch.testing.assert_close(u, loop, atol=1e-12, rtol=0)


def test_number_of_paths_is_maces():
    """U matrices of MACE (hidden 0e+1o+2e+3o, correlation 3) have 23 paths to 0e at power 3."""
    irreps = o3.Irreps("0e+1o+2e+3o")
    counts = [u_tensors(irreps, [o3.Irrep("0e")], nu)[0].shape[-1] for nu in (1, 2, 3)]
    assert counts == [1, 4, 23]


def test_gaunt_power_is_the_pointwise_power():
    """f^3 projected on all degrees it has: evaluates to f(r)^3 anywhere."""
    out = "+".join(f"{l}{'eo'[l % 2]}" for l in range(7))
    product = many_body("gaunt/grid", "1x0e+1x1o+1x2e", out, 3, 1)
    with torch.no_grad():
        product.weights.zero_()
        product.weights[:, 2] = 1.0
    x = torch.randn(1, 9, dtype=F64)
    r = torch.randn(11, 3, dtype=F64)
    y = o3.spherical_harmonics(list(range(7)), r, True, "integral")
    f = y[:, :9] @ x[0]
    cube = y @ product(x, torch.zeros(1, dtype=torch.long))[0]
    torch.testing.assert_close(cube, f**3, atol=1e-11, rtol=0)


@pytest.mark.parametrize("variant", MANY_BODY)
def test_atoms_and_channels_are_by_themselves(variant):
    """Permuted atoms give permuted rows; a channel sees its own features alone."""
    product = many_body(variant, "3x0e+3x1o", "0e+1o", 3, 2)
    x, species = atoms(product, 6)
    out = product(x, species)
    order = torch.randperm(6)
    torch.testing.assert_close(product(x[order], species[order]), out[order], atol=1e-12, rtol=0)
    moved = x.clone().unflatten(1, (4, 3))
    moved[:, :, 1] += 1.0
    gap = (product(moved.flatten(1), species) - out).unflatten(1, (4, 3)).abs()
    assert gap[:, :, [0, 2]].max() < 1e-12
    assert gap[:, :, 1].max() > 1e-2


@pytest.mark.parametrize("variant", MANY_BODY)
def test_powers_are_symmetric_forms(variant):
    """Only the cubic weights on: x^3 by the polarised form T(x, y, z), equal in every order."""
    product = many_body(variant, "1x0e+1x1o", "0e", 3, 1)
    species = torch.zeros(1, dtype=torch.long)
    x, y, z = torch.randn(3, 1, 4, dtype=F64)

    def cubic(v):  # the part of third degree, by Lagrange's formula on a line
        values = [product(s * v, species) for s in (-2.0, -1.0, 1.0, 2.0)]
        return (values[3] - values[0] - 2 * (values[2] - values[1])) / 12

    def polar(a, b, c):
        return (cubic(a + b + c) - cubic(a + b) - cubic(b + c) - cubic(a + c) + cubic(a)
                + cubic(b) + cubic(c)) / 6  # fmt: skip

    torch.testing.assert_close(polar(x, x, x), cubic(x), atol=1e-10, rtol=1e-10)
    torch.testing.assert_close(polar(2 * x, y, z), 2 * polar(z, x, y), atol=1e-10, rtol=1e-10)
    assert cubic(x).abs().max() > 1e-4


def test_truncating_intermediates_would_be_another_function():
    product = many_body("gaunt/grid", "1x0e+1x1o+1x2e+1x3o", "0e+1o+2e", 3, 1)
    with torch.no_grad():
        product.weights.zero_()
        product.weights[:, 2] = 1.0
    x = torch.randn(16, dtype=F64)
    low = torch.zeros(16, 16, 16, dtype=F64)
    for a in range(4):
        for b in range(4):
            for c in range(abs(a - b), min(3, a + b) + 1):
                low[a * a : (a + 1) ** 2, b * b : (b + 1) ** 2, c * c : (c + 1) ** 2] = gaunt(
                    a, b, c
                )
    square = torch.einsum("ijk,i,j->k", low, x, x)
    cube = torch.einsum("ijk,i,j->k", low, square, x)[:9]
    full = product(x[None], torch.zeros(1, dtype=torch.long))[0]
    assert (full - cube).norm() > 0.02 * full.norm()


@pytest.mark.parametrize("nodes", ["gauss", "lebedev", (6, 12)])
def test_node_rules_of_the_grid(nodes):
    """nu = 3, lmax 3, lmax_out 2: 6 x 12 nodes suffice, fewer are refused."""
    product, reference = pair(
        "gaunt/grid", "2x0e+2x1o+2x2e+2x3o", "0e+1o+2e", 3, 1, nodes=nodes
    )  # fmt: skip
    x, species = atoms(product)
    torch.testing.assert_close(product(x, species), reference(x, species), rtol=1e-10, atol=1e-10)
    with pytest.raises(InputError, match="cannot integrate degree 11"):
        many_body("gaunt/grid", "2x0e+2x1o+2x2e+2x3o", "0e+1o+2e", 3, 1, nodes=(6, 11))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("cg/u_tensors", "2x0e"), "unknown many-body variant 'cg/u_tensors'; did you mean"),
        (("cg/u_tensor", "2x0e+3x1o"), "has different multiplicities"),
        (("cg/u_tensor", "2x0e+2x0e"), "an irrep occurs twice"),
        (("gaunt/grid", "2x0e+2x1o", "0e", 0), "correlation=0"),
        (("gaunt/grid", "2x0e+2x1o", "0o"), "no power of functions of .* holds 0o"),
        (("cg/u_tensor", "2x0e", "1o"), "no product of up to 3 factors 2x0e makes 1o"),
        (("cg/u_tensor", "1x0e+1x5o+1x6e+1x7o+1x8e", "0e", 4), "use a lower correlation"),
    ],
)
def test_errors_name_the_value(arguments, sentence):
    with pytest.raises(InputError, match=sentence):
        many_body(*arguments)
