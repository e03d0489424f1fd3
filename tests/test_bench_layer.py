"""`tpcalc bench layer --peak`: what is counted, and a share that can be one."""

import pytest
from tpcalc.bench.layer import bench_layer, useful_operations
from tpcalc.errors import InputError
from tpcalc.tensor_products import tensor_product


def test_useful_operations_by_hand():
    # 0 x 0 -> 0, 0 x 1 -> 1, 1 x 0 -> 1, 1 x 1 -> 0: 10 entries of M, each of one coupling,
    # and shorter sides 1 + 1 + 3 + 1
    irreps = "5x0e+5x1o"
    product = tensor_product("cg/fused", irreps, "0e+1o", irreps)
    assert useful_operations(product) == 5 * (2 * 10 + 6) + 2 * 10


def test_share_of_peak_of_every_variant():
    result = bench_layer(["cg/e3nn", "cg/fused"], 2, 32, 200, 20, repeat=3, peak=True)
    assert result["peak_gflops"] > 1
    assert 0 < result["call_ms"] < 100
    for row in result["variants"]:
        assert 0 < row["of_peak"] < 100
        assert 0 < row["first_of_peak"] < 100


def test_peak_is_that_of_one_core_in_float32():
    with pytest.raises(InputError, match="--peak is one core's"):
        bench_layer(["cg/fused"], 1, 8, 20, 4, dtype="float64", repeat=1, peak=True)
