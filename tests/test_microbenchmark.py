"""The microbenchmark: what it leaves out, what it counts, what it writes."""

import csv
import json

import pytest
from tpcalc.analysis.expressivity import expressivity
from tpcalc.bench.microbenchmark_cases import degrees_of_freedom, parity_of
from tpcalc.cli import main

SMALL = ["bench", "microbenchmark", "--json", "--repeat", "1", "--batch", "4"]


def rows_of(capsys, *arguments):
    assert main([*SMALL, *arguments]) == 0
    return json.loads(capsys.readouterr().out)["rows"]


def test_empty_computations_are_left_out(capsys, tmp_path):
    """SISO at odd L has no natural-parity path: cg and gaunt do not appear, matrix does."""
    file = tmp_path / "table.csv"
    rows = rows_of(capsys, "--lmax", "1", "--variants", "cg/sparse,gaunt/grid,matrix/matmul",
                   "--backward", "--csv", str(file))  # fmt: skip
    cases = {(row["place"], row["variant"]) for row in rows}
    assert ("SISO", "cg/sparse") not in cases
    assert {("SISO", "matrix/matmul"), ("SIMO", "cg/sparse"), ("MIMO", "gaunt/grid")} <= cases
    for row in rows:
        assert row["ms"] > 0
        assert row["both_ms"] > 0
        assert row["gflops"] > 0
        assert row["us_per_dof"] == pytest.approx(1e3 * row["ms"] / row["dof"])
    with file.open(encoding="utf-8") as lines:
        assert len(list(csv.DictReader(lines))) == len(rows)


@pytest.mark.parametrize(
    ("place", "variants"),
    [("interaction", "cg/sparse,gaunt/grid"), ("many-body", "cg/u_tensor,gaunt/grid")],
)
def test_the_other_places(place, variants, capsys, tmp_path):
    picture = tmp_path / "times.png"
    arguments = ["--places", place, "--variants", variants, "--channels", "2", "--lmax", "1"]
    try:
        import matplotlib  # noqa: F401

        arguments += ["--plot", str(picture)]
    except ModuleNotFoundError:
        picture = None
    rows = rows_of(capsys, *arguments)
    assert [row["variant"] for row in rows] == variants.split(",")
    assert picture is None or picture.stat().st_size > 5000


@pytest.mark.parametrize("variant", ["cg/sparse", "gaunt/grid", "matrix/matmul"])
@pytest.mark.parametrize("setting", ["SISO", "SIMO", "MIMO"])
def test_formulas_continue_the_ranks(variant, setting):
    if (variant, setting) == ("cg/sparse", "MIMO"):
        assert degrees_of_freedom(variant, setting, 5) == 91  # its rank: test_expressivity.py
    elif setting != "SISO":  # empty at odd L
        rank = expressivity(variant, setting, 5, parity_of(variant))
        assert degrees_of_freedom(variant, setting, 5) == rank


def test_refusals(capsys):
    for arguments, sentence in (
        (["--lmax", "0"], "not a comma list of whole numbers >= 1"),
        (["--places", "setting"], "did you mean 'settings'"),
        (["--batch", "0"], "--batch '0' is not a comma list"),
    ):
        assert main([*SMALL, *arguments]) == 2
        assert sentence in capsys.readouterr().err


def test_convolution_and_sweeps(capsys):
    """Every batch with every number of channels, edges an atom and dtype, in one table."""
    rows = rows_of(capsys, "--places", "convolution", "--variants", "cg/e3nn,shared/edge_matrix",
                   "--lmax", "1", "--batch", "3,5", "--channels", "1,2", "--degree", "2,4",
                   "--dtype", "float32,float64", "--backward")  # fmt: skip
    points = {(r["place"], r["batch"], r["channels"], r["dtype"], r["variant"]) for r in rows}
    assert len(points) == len(rows) == 2**5
    for first, second in zip(rows[::2], rows[1::2]):
        assert (first["variant"], first["dof"]) == ("cg/e3nn", 4)
        assert (second["variant"], second["dof"]) == ("shared/edge_matrix", 1)
        assert first["times"] == first["both_times"] == 1
        assert second["times"] == pytest.approx(first["ms"] / second["ms"])
        assert second["both_times"] == pytest.approx(first["both_ms"] / second["both_ms"])
