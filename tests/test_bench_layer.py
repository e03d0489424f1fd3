"""`tpcalc bench layer`: turns, what `--peak` counts, and a share that can be one."""

import pytest
from tpcalc.bench.layer import bench_layer, useful_operations
from tpcalc.bench.turns import in_turns
from tpcalc.errors import InputError
from tpcalc.tensor_products import tensor_product


def test_short_jobs_are_repeated_within_their_turn():
    """On a clock of our own: a call after the other job takes longer, as with cold caches."""
    now, order = 0.0, []

    def job(name, cold, warm):
        def run():
            nonlocal now
            now += warm if order and order[-1] == name else cold
            order.append(name)

        return run

    jobs = {"short": job("short", 6e-4, 3e-4), "long": job("long", 4e-3, 3e-3)}
    times = in_turns(jobs, 2, lambda: now, "test", warm_up=1)
    assert times["short"].first == pytest.approx([6e-4, 6e-4])
    assert times["short"].mean == pytest.approx([1.5e-3 / 4] * 2)  # 4 calls make a millisecond
    assert times["long"].first == times["long"].mean == pytest.approx([4e-3, 4e-3])
    assert order == ["short"] * 2 + ["long"] * 2 + (["short"] * 4 + ["long"]) * 2


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
