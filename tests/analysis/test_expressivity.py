"""Expressivity and interactability against the published counts and selection rules."""

import pytest
from tpcalc.analysis.expressivity import expressivity, jacobian_rank, setting_irreps
from tpcalc.analysis.interactability import couples, interactability, picture
from tpcalc.errors import InputError
from tpcalc.tensor_products import functions, tensor_product


@pytest.mark.parametrize(
    ("variant", "parity", "ranks"),
    [
        ("cg/sparse", "both", [6, 19, 44, 85, 146]),
        ("cg/sparse", "natural", [5, 14, 30, 55, 91]),
        ("gaunt/grid", "natural", [5, 9, 13, 17, 21]),
        ("matrix/matmul", "none", [5, 9, 13, 17, 21]),
        ("shared/reference", "natural", [1, 1, 1]),
        ("gaunt_full/grid", "both", [6, 14, 22]),  # 4L+1 even, 4L-3 odd
        ("vector/grid", "both", [6, 19]),
    ],
)
def test_ranks_of_the_literature(variant, parity, ranks):
    found = [expressivity(variant, "MIMO", l, parity) for l in range(1, len(ranks) + 1)]
    assert found == ranks


@pytest.mark.parametrize(("lmax", "terms"), [(1, 1), (2, 2), (3, 3), (4, 4), (6, 6)])
def test_gaunt_terms_that_reach_every_even_path(lmax, terms):
    """Outputs up to L: full at R = 1, 2, 3, 4, 6 terms, not one earlier."""
    irreps = setting_irreps("MIMO", lmax)[0]
    paths = len(tensor_product("gaunt/grid", irreps, irreps, irreps).paths)
    ranks = [
        jacobian_rank(tensor_product("gaunt/grid", irreps, irreps, irreps, terms=r))
        for r in sorted({1, terms - 1, terms} - {0})
    ]
    assert ranks[-1] == paths
    assert all(rank < paths for rank in ranks[:-1])


def test_settings():
    assert setting_irreps("SISO", 3) == ("1x3o", "1x3o", "1x3o")
    assert expressivity("gaunt/grid", "SISO", 3) == 0  # 3 x 3 -> 3 is an odd sum
    assert expressivity("cg/sparse", "SISO", 2) == 1
    assert expressivity("cg/sparse", "SIMO", 2, "both") == 5
    assert expressivity("gaunt/grid", "SIMO", 2) == 3
    with pytest.raises(InputError, match="unknown setting 'MIMOO'; did you mean 'MIMO'"):
        setting_irreps("MIMOO", 1)
    with pytest.raises(InputError, match="degree 0"):
        setting_irreps("MIMO", 0)


def test_cross_product_is_what_gaunt_misses():
    assert not couples("gaunt", "1o", "1o", "1e")
    for function in set(functions()) - {"gaunt"}:
        assert couples(function, "1o", "1o", "1e"), function
    assert not couples("cg", "1o", "1o", "1o")  # parity
    assert not couples("cg", "1o", "1o", "3e")  # triangle


def test_table_of_triples():
    rows = interactability("gaunt", 2)
    for row in rows:
        total = sum(int(row[k][0]) for k in ("ir1", "ir2", "ir3"))
        assert row["couples"] == (total % 2 == 0)
    assert all(row["couples"] for row in interactability("matrix", 1))


def test_picture_is_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    assert picture(tmp_path / "triples.png", 1).stat().st_size > 5000
