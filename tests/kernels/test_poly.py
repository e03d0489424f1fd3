"""`tpcalc::poly` against the U tensors of MACE, through two derivatives."""

import os
import subprocess
import sys

import pytest
import torch
from tpcalc.errors import InputError
from tpcalc.tensor_products import MANY_BODY, default_many_body
from tpcalc.tensor_products.symmetric.base import fold_products
from tpcalc.tensor_products.symmetric.cg import CgSymmetric
from tpcalc.tensor_products.symmetric.fused import CgPolynomialFused
from tpcalc.tensor_products.symmetric.trees import FILE, trees_source

F64 = torch.float64
CASES = [
    ("3x0e+3x1o+3x2e", "0e+1o", 3),
    ("17x0e+17x1o", "0e+1o", 2),
    ("8x0e+8x1o", "0e", 4),
    ("2x0e+2x1o+2x1e", "0e+1e", 3),
    ("1x0e+1x1o", "1o", 1),
    ("5x0e+5x1o+5x2e", "0e+1o+2e", 3),
    ("11x0e+11x1o+11x2e+11x3o", "0e+1o", 2),
]


@pytest.mark.parametrize("case", CASES)
def test_equals_u_tensors_and_their_derivatives(case):
    fused, plain = CgPolynomialFused(*case, 3), CgSymmetric(*case, 3)
    plain.load_state_dict(fused.state_dict())
    x = torch.randn(7, fused.irreps_in.dim, dtype=F64, requires_grad=True)
    species = torch.randint(3, (7,))
    outs = [module(x, species) for module in (fused, plain)]
    torch.testing.assert_close(*outs, rtol=1e-11, atol=1e-11)
    g = torch.randn_like(outs[0]).requires_grad_(True)
    leaves = [(x, *module.weights) for module in (fused, plain)]
    firsts = [torch.autograd.grad(out, at, g, create_graph=True) for out, at in zip(outs, leaves)]
    for a, b in zip(*firsts):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)
    seconds = [
        torch.autograd.grad(sum(t.sin().sum() for t in first), (g, *at), allow_unused=True)
        for first, at in zip(firsts, leaves)
    ]
    for a, b in zip(*seconds):
        if b is not None:
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("number", [0, 11, -1])
def test_mutated_coefficient_is_caught(number):
    fused, plain = (kind("4x0e+4x1o", "0e+1o", 3, 2) for kind in (CgPolynomialFused, CgSymmetric))
    plain.load_state_dict(fused.state_dict())
    x, species = torch.randn(5, 16, dtype=F64), torch.tensor([0, 1, 0, 1, 1])
    wanted = plain(x, species)
    torch.testing.assert_close(fused(x, species), wanted, rtol=1e-12, atol=1e-12)
    fused.path_sums[tuple(fused.path_sums.nonzero()[number])] *= 1.001
    assert (fused(x, species) - wanted).abs().max() > 1e-6


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_no_nodes_and_a_species_without_nodes(dtype):
    fused = CgPolynomialFused("4x0e+4x1o", "0e", 3, 5).to(dtype)
    none = fused(torch.zeros(0, 16, dtype=dtype), torch.zeros(0, dtype=torch.long))
    assert none.shape == (0, 4)
    one = fused(torch.randn(2, 16, dtype=dtype), torch.tensor([4, 4]))
    assert one.dtype == dtype
    (grad,) = torch.autograd.grad(one.sum(), fused.weights[2])
    assert grad[4].any()
    assert not grad[:4].any()


def test_threads_give_the_same_numbers():
    fused = CgPolynomialFused("40x0e+40x1o", "0e+1o", 3, 2)
    x, species = torch.randn(9, 160, dtype=F64), torch.randint(2, (9,))
    one = fused(x, species)
    torch.set_num_threads(2)
    try:
        assert torch.equal(fused(x, species), one)
    finally:
        torch.set_num_threads(1)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"species": torch.tensor([0, 2])}, "species 2 of node 1"),
        ({"species": torch.tensor([0])}, "one entry a node"),
        ({"coef": torch.randn(2, 3, 4)}, "terms and"),
        ({"coef": torch.randn(2, 2, 5)}, "coefficients .* are needed"),
        ({"monomials": torch.tensor([[-1, 3], [0, 1]], dtype=torch.int32)}, "monomial 1 is made"),
        ({"terms": torch.tensor([[0, 5], [0, 0]], dtype=torch.int32)}, "takes monomial 5"),
        ({"terms": torch.tensor([[0, 1], [1, 0]], dtype=torch.int32)}, "outputs must rise"),
        ({"x": torch.randn(2, 3, 4, dtype=F64)}, "float32 or float64"),
    ],
)
def test_wrong_input_is_refused(change, sentence):
    args = {
        "x": torch.randn(2, 3, 4), "coef": torch.randn(2, 2, 4), "species": torch.tensor([0, 1]),
        "monomials": torch.tensor([[-1, 0], [0, 1]], dtype=torch.int32),
        "terms": torch.tensor([[0, 1], [0, 1]], dtype=torch.int32), "d_out": 2,
    }  # fmt: skip
    torch.ops.tpcalc.poly(*args.values())
    args.update(change)
    with pytest.raises((RuntimeError, IndexError), match=sentence):
        torch.ops.tpcalc.poly(*args.values())


@pytest.mark.parametrize("wrong", [(3, 2, 4), (2, 2, 5), (2, 4)])
def test_wrong_gradients_and_tangents_are_refused(wrong):
    ops = torch.ops.tpcalc
    tables = (
        torch.randn(2, 2, 4), torch.tensor([0, 1]),
        torch.tensor([[-1, 0], [0, 1]], dtype=torch.int32),
        torch.tensor([[0, 1], [0, 1]], dtype=torch.int32),
    )  # fmt: skip
    x, g = torch.randn(2, 3, 4), torch.randn(2, 2, 4)
    for given in (torch.randn(wrong), g.double()):
        with pytest.raises(RuntimeError, match="gradient .* does not fit features"):
            ops.poly_bwd(given, x, *tables, True)
        with pytest.raises(RuntimeError, match="gradient .* does not fit features"):
            ops.poly_double_bwd(given, x, *tables, None, None)
    for tangents in ((torch.randn(wrong), None), (None, torch.randn(wrong))):
        with pytest.raises(RuntimeError, match="tangent"):
            ops.poly_double_bwd(g, x, *tables, *tangents)


def test_trees_are_those_of_the_couplings():
    assert FILE.read_text() == trees_source()


@pytest.mark.parametrize("isa", ["", "avx2", "baseline"])
def test_maces_largest_shape_in_float32(isa):
    """lmax 3, correlation 3, tails of channels, in every instruction set, against the U tensors."""
    code = """
import torch
from tpcalc.tensor_products.symmetric.cg import CgSymmetric
from tpcalc.tensor_products.symmetric.fused import CgPolynomialFused
args = ("21x0e+21x1o+21x2e+21x3o", "0e+1o", 3, 2)
fused, plain = CgPolynomialFused(*args), CgSymmetric(*args)
plain.load_state_dict(fused.state_dict())
x, species = torch.randn(6, fused.irreps_in.dim, dtype=torch.float64), torch.arange(6) % 2
wanted, single = plain(x, species), fused.float()(x.float(), species)
assert (single - wanted).abs().max() < 3e-6 * wanted.abs().max()
"""
    environment = {**os.environ, "TPCALC_ISA": isa} if isa else dict(os.environ)
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


def test_folded_coefficients_follow_the_weights():
    fused = CgPolynomialFused("4x0e+4x1o", "0e+1o", 3, 2)
    x, species = torch.randn(5, 16, dtype=F64), torch.tensor([0, 1, 1, 0, 1])
    made = fused(x, species)
    fused.eval().requires_grad_(False)
    fold_products(fused)
    torch.testing.assert_close(fused(x, species), made, rtol=1e-13, atol=1e-13)
    scripted = torch.jit.freeze(torch.jit.script(fused))
    torch.testing.assert_close(scripted(x, species), made, rtol=1e-13, atol=1e-13)
    assert "matmul" not in str(scripted.graph)
    other = {k: 2 * v for k, v in fused.state_dict().items()}
    fused.load_state_dict(other)
    torch.testing.assert_close(fused(x, species), 2 * made)
    fold_products(fused)
    fused.requires_grad_(True)  # training makes them again, and reaches the weights
    (grad,) = torch.autograd.grad(fused(x, species).sum(), fused.weights[0])
    assert grad.abs().max() > 0


def test_default_is_the_fused_one():
    assert default_many_body("cg") == "cg/fused"
    assert default_many_body("gaunt") in MANY_BODY
    with pytest.raises(InputError, match="many-body function"):
        default_many_body("matrix")
