"""`tpcalc::poly` against the U tensors of MACE, through two derivatives."""

import pytest
import torch
from tpcalc.tensor_products.symmetric.cg import CgSymmetric
from tpcalc.tensor_products.symmetric.fused import CgPolynomialFused

F64 = torch.float64
CASES = [
    ("3x0e+3x1o+3x2e", "0e+1o", 3),
    ("17x0e+17x1o", "0e+1o", 2),
    ("8x0e+8x1o", "0e", 4),
    ("2x0e+2x1o+2x1e", "0e+1e", 3),
    ("1x0e+1x1o", "1o", 1),
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
