"""`tpcalc::weight_products`: against the same products by torch, through three derivatives."""

import pytest
import torch
from tpcalc.kernels.ops import load_ops

F64 = torch.float64
# [terms, paths, 3]: a block twice, three times, and blocks that no path takes
FACTORS = {
    "one term": torch.tensor([[[0, 1, 2], [3, 3, 1], [4, 4, 4], [2, 0, 1]]]),
    "two terms": torch.tensor([[[0, 1, 2], [1, 1, 2]], [[3, 4, 3], [4, 0, 1]]]),
}


@pytest.fixture(scope="module", autouse=True)
def _ops():
    load_ops()


def plain(x, factors, channels):
    a, b, c = (x.unflatten(1, (-1, channels))[:, factors[..., n]] for n in range(3))
    return (a * b * c).sum(1).flatten(1)


def op(x, factors, channels):
    return torch.ops.tpcalc.weight_products(x, factors, channels)


@pytest.mark.parametrize("factors", FACTORS.values(), ids=FACTORS)
@pytest.mark.parametrize("channels", [1, 3, 8, 21])
@pytest.mark.parametrize("rows", [0, 1, 200])
def test_values_and_three_derivatives(factors, channels, rows):
    x = torch.rand(rows, 6 * channels, dtype=F64, requires_grad=True)
    found = []
    for function in (op, plain):
        y = function(x, factors, channels)
        (first,) = torch.autograd.grad(y.sin().sum(), x, create_graph=True)
        (second,) = torch.autograd.grad(first.cos().sum(), x, create_graph=True)
        (third,) = torch.autograd.grad((second**2).sum(), x)
        found.append((y, first, second, third))
    for a, b in zip(*found):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("factors", FACTORS.values(), ids=FACTORS)
def test_second_derivatives_of_the_fused_kernel(factors):
    """Without a graph of the second one, as a training step takes them; for g and x."""
    x = torch.randn(50, 6 * 19, dtype=F64, requires_grad=True)
    g = torch.randn(50, factors.shape[1] * 19, dtype=F64, requires_grad=True)
    tangent = torch.randn_like(x)
    found = []
    for function in (op, plain):
        (first,) = torch.autograd.grad(function(x, factors, 19), x, g, create_graph=True)
        found.append(torch.autograd.grad(first, (g, x), tangent))
    for a, b in zip(*found):
        torch.testing.assert_close(a, b, rtol=1e-13, atol=1e-13)


def test_float32_non_contiguous_and_threads():
    factors = FACTORS["two terms"]
    x = torch.randn(6 * 16, 3000).T
    one = op(x, factors, 16)
    torch.testing.assert_close(one, plain(x.double(), factors, 16).float())
    torch.set_num_threads(2)
    try:
        assert torch.equal(op(x, factors, 16), one)
    finally:
        torch.set_num_threads(1)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"factors": torch.tensor([[[0, 1, 6]]])}, "factor 6; the network has 6 blocks"),
        ({"factors": torch.tensor([[[0, 1, -1]]])}, "factor -1"),
        ({"factors": torch.zeros(0, 0, 3, dtype=torch.long)}, "no factors"),
        ({"factors": torch.zeros(1, 2, 3)}, "int64 CPU tensor"),
        ({"channels": 4}, "blocks of at least one channel"),
        ({"channels": 0}, "blocks of at least one channel"),
        ({"x": torch.randn(30)}, "must be a matrix"),
        ({"x": torch.ones(5, 30, dtype=torch.long)}, "float32 or float64"),
    ],
)
def test_wrong_input_is_refused(change, sentence):
    args = {"x": torch.randn(5, 30), "factors": FACTORS["one term"], "channels": 5} | change
    with pytest.raises((RuntimeError, IndexError), match=sentence):
        op(*args.values())


def test_wrong_gradients_are_refused():
    x, factors, ops = torch.randn(5, 30), FACTORS["one term"], torch.ops.tpcalc
    for g in (torch.randn(4, 20), torch.randn(5, 19), torch.randn(5, 20, dtype=F64)):
        with pytest.raises(RuntimeError, match="the gradient"):
            ops.weight_products_bwd(g, x, factors, 5)
    for dx in (torch.randn(4, 30), torch.randn(5, 29), x.double()):
        with pytest.raises(RuntimeError, match="the tangent"):
            ops.weight_products_double_bwd(torch.randn(5, 20), x, dx, factors, 5)
