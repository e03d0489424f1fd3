"""Defects, CP sweeps and counted costs."""

import pytest
import torch
from e3nn import o3
from tpcalc.analysis.cost import CostCounter, convolution_cost
from tpcalc.analysis.cp_sweep import rank_sweep
from tpcalc.analysis.equivariance import (
    convolution_defect,
    product_defect,
    random_orthogonal,
    representation,
)
from tpcalc.o3.layout import ir_mul_index
from tpcalc.tensor_products import convolution, tensor_product

F64 = torch.float64
IRREPS = ("2x0e+2x1o+2x2e", "0e+1o+2e")


def test_representation_is_e3nns():
    irreps = o3.Irreps("2x0e+1x0o+2x1o+1x1e+2x2e+1x3o")
    generator = torch.Generator().manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(F64)
    try:
        for improper in (False, True):
            (matrix,) = random_orthogonal(1, generator, improper)
            expected = irreps.D_from_matrix(matrix)
            index = ir_mul_index(irreps)
            found = representation(irreps, matrix)
            torch.testing.assert_close(found, expected[index][:, index], atol=1e-12, rtol=0)
    finally:
        torch.set_default_dtype(before)


def test_defects():
    exact = product_defect(tensor_product("gaunt_full/grid", *IRREPS), 4)
    assert exact["rotation"]["max"] < 1e-13
    assert exact["inversion"]["max"] < 1e-13
    low = product_defect(tensor_product("shared/cp", *IRREPS, rank=28), 4)
    assert 5e-3 < low["rotation"]["mean"] < 5e-2
    truncated = convolution_defect(convolution("cg/so2_truncated", *IRREPS), 3)
    assert truncated["rotation"]["max"] < 1e-13


@pytest.mark.parametrize("kind", ["all", "natural"])
@pytest.mark.parametrize("lmax", [1, 2, 3])
def test_rank_sweep(lmax, kind):
    """From rank 4 to exact: the defect follows the error (ratio about 1) and never exceeds
    2 ||M - M^|| |x| |y|."""
    rows = rank_sweep(lmax, kind, trials=4)
    assert rows[0]["rank"] == 4
    assert rows[-1]["error"] < 1e-13
    assert rows[-1]["defect"] < 1e-12
    for row in rows:
        assert row["bound_ratio"] <= 1
        if row["error"] > 1e-12:
            assert 0.5 < row["defect"] / row["error"] < 2


def test_counter_counts_known_operations():
    a, b = torch.randn(7, 5), torch.randn(5, 3)
    with CostCounter() as cost:
        (a @ b) * 2.0
    assert cost.flops == 2 * 7 * 5 * 3 + 21
    assert cost.bytes == 4 * (35 + 15 + 21 + 21 + 21)
    with CostCounter() as cost:
        torch.fft.fft(torch.zeros(8, dtype=torch.complex64))
    assert cost.flops == 5 * 8 * 3


def test_cost_of_an_edge():
    """shared/edge_matrix: d3 x d1 multiply-adds a channel, then weights and the sum."""
    conv = convolution("shared/edge_matrix", "4x0e+4x1o", "0e+1o", "0e+1o")
    cost = convolution_cost(conv, 10, 5)
    assert cost["flops"] == pytest.approx(2 * 16 * 4 + 16 + 16)
    fourier = convolution_cost(convolution("gaunt/fourier", *IRREPS), 5, 4)
    grid = convolution_cost(convolution("gaunt/grid", *IRREPS), 5, 4)
    assert fourier["flops"] > 3 * grid["flops"]
    assert not fourier["unknown"]


@pytest.mark.parametrize("function", ["cg", "shared", "gaunt"])
def test_cost_of_the_fused_op_is_counted_from_its_table(function):
    """0 x 0 -> 0 alone: M from one non-zero, one entry for every channel, weight and sum."""
    conv = convolution(f"{function}/fused", "4x0e", "0e", "0e")
    cost = convolution_cost(conv, 3, 2)
    own = 4 * 3 if function == "gaunt" else 0  # w1 w2 w3, summed over terms, come first
    assert cost["flops"] == pytest.approx(2 + 2 * 4 + 2 * 4 + own)
    assert not cost["unknown"]
