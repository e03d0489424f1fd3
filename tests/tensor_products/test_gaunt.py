"""The Gaunt product against quadrature, and the sharpness of its node rules."""

import math

import pytest
import torch
from e3nn import o3
from tpcalc.errors import InputError
from tpcalc.o3.gaunt import gaunt
from tpcalc.o3.quadrature import gauss_fourier, gauss_fourier_size, lebedev
from tpcalc.tensor_products import tensor_product
from tpcalc.tensor_products.gaunt.grid import choose_nodes

F64 = torch.float64


def harmonics(l, points):
    return o3.spherical_harmonics(l, points, True, "integral")


def triple(l1, l2, l3, points, weights):
    return torch.einsum(
        "n,ni,nj,nk->ijk", weights, *(harmonics(l, points) for l in (l1, l2, l3))
    )  # fmt: skip


@pytest.mark.parametrize(
    "degrees", [(0, 0, 0), (1, 1, 2), (2, 2, 4), (3, 2, 3), (1, 1, 1), (3, 3, 6)]
)
def test_closed_form_is_the_integral(degrees):
    points, weights = gauss_fourier(16, 32)
    torch.testing.assert_close(
        gaunt(*degrees), triple(*degrees, points, weights), atol=1e-12, rtol=0
    )


@pytest.mark.parametrize("degrees", [(2, 2, 2), (2, 2, 4), (3, 3, 3), (3, 3, 6)])
def test_node_rule_is_sharp_in_both_directions(degrees):
    n_beta, n_alpha = gauss_fourier_size(sum(degrees))

    def worst(n_beta, n_alpha):
        """Over all degrees up to the given ones, as the product of whole features needs it."""
        points, weights = gauss_fourier(n_beta, n_alpha)
        return max(
            (triple(a, b, c, points, weights) - gaunt(a, b, c)).abs().max().item()
            for a in range(degrees[0] + 1)
            for b in range(degrees[1] + 1)
            for c in range(degrees[2] + 1)
        )

    assert worst(n_beta, n_alpha) < 1e-12
    assert worst(n_beta - 1, n_alpha) > 1e-3
    assert worst(n_beta, n_alpha - 1) > 1e-3


@pytest.mark.parametrize("degree", [2, 3, 6, 9, 13, 14, 20])
def test_lebedev_integrates_its_degree_with_positive_weights(degree):
    points, weights = lebedev(degree)
    assert (weights > 0).all()
    assert abs(weights.sum().item() - 4 * math.pi) < 1e-11
    low, high = degree // 2, degree - degree // 2
    overlap = torch.einsum("n,ni,nj->ij", weights, harmonics(high, points), harmonics(low, points))
    expected = torch.eye(2 * high + 1, dtype=F64) if low == high else torch.zeros_like(overlap)
    torch.testing.assert_close(overlap, expected, atol=1e-11, rtol=0)


def test_under_resolved_grid_is_refused():
    with pytest.raises(InputError, match=r"nodes=\(3, 7\) cannot integrate degree 6.*\(4, 7\)"):
        tensor_product("gaunt/grid", "1x0e+1x1o+1x2e", "0e+1o+2e", nodes=(3, 7))
    with pytest.raises(InputError, match="unknown node rule 'lebedef'; did you mean 'lebedev'"):
        tensor_product("gaunt/grid", "1x0e+1x1o", "0e+1o", nodes="lebedef")


@pytest.mark.parametrize("options", [{}, {"nodes": "gauss"}, {"nodes": (6, 11)}, {"terms": 3}])
def test_grid_options_give_the_same_function(options):
    irreps = ("2x0e+2x1o+2x2e", "0e+1o+2e")
    terms = {"terms": options["terms"]} if "terms" in options else {}
    reference = tensor_product("gaunt/reference", *irreps, **terms)
    w = torch.randn(reference.weight_numel, dtype=F64)
    grid = tensor_product("gaunt/grid", *irreps, **options)
    torch.testing.assert_close(grid.materialize(w), reference.materialize(w), atol=1e-12, rtol=0)


def test_unit_weights_multiply_functions_pointwise():
    product = tensor_product("gaunt/reference", "1x0e+1x1o+1x2e", "0e+1o", "0e+1o+2e+3o")
    x, y = torch.randn(9, dtype=F64), torch.randn(4, dtype=F64)
    z = product(x, y, torch.ones(product.weight_numel, dtype=F64))
    r = torch.randn(20, 3, dtype=F64)
    f, g, h = (harmonics(list(range(n)), r) for n in (3, 2, 4))
    torch.testing.assert_close((f @ x) * (g @ y), h @ z, atol=1e-12, rtol=0)


def test_no_odd_path():
    product = tensor_product("gaunt/reference", "1x0e+1x1o+1x2e", "0e+1o+2e")
    assert all((p.l1 + p.l2 + p.l3) % 2 == 0 for p in product.paths)
    with pytest.raises(InputError, match="no path leads"):
        tensor_product("gaunt/grid", "1x1o", "1o", "1e")


def test_two_terms_reach_every_even_path_at_degree_2():
    """gaunt:2 spans the 11 even paths of L = 2 (three outputs 0, 1, 2): Jacobian rank."""
    product = tensor_product("gaunt:2/reference", "1x0e+1x1o+1x2e", "0e+1o+2e")
    w = torch.randn(product.weight_numel, dtype=F64)
    jacobian = torch.autograd.functional.jacobian(product.materialize, w).reshape(-1, len(w))
    assert torch.linalg.matrix_rank(jacobian, tol=1e-8) == len(product.paths) == 11


@pytest.mark.parametrize(
    ("lmax", "out", "fewest", "product_grid"),
    [(1, 1, 6, 8), (1, 2, 14, 15), (2, 2, 26, 28), (2, 4, 38, 45), (3, 3, 38, 50), (4, 4, 86, 91),
     (6, 6, 146, 190)],
)  # fmt: skip
def test_smallest_exact_rule_is_chosen(lmax, out, fewest, product_grid):
    """The counts of reference/tensor_products.md (degree 13 has a negative weight: 86, not 74);
    the next smaller Lebedev rule is not exact."""
    degree = 2 * lmax + out
    assert len(choose_nodes("lebedev", degree)[0]) == fewest
    assert len(choose_nodes("gauss", degree)[0]) == product_grid
    ins = "+".join(f"1x{l}{'eo'[l % 2]}" for l in range(lmax + 1))
    outs = "+".join(f"{l}{'eo'[l % 2]}" for l in range(out + 1))
    grid = tensor_product("gaunt/grid", ins, ins, outs)
    assert grid.to_nodes1.shape[0] == fewest
    if 3 < degree < 10:  # 3 is the smallest rule there is
        points, weights = lebedev(_next_smaller_degree(degree))
        worst = max(
            (triple(lmax, lmax, c, points, weights) - gaunt(lmax, lmax, c)).abs().max().item()
            for c in range(out + 1)
        )
        assert worst > 1e-3


def _next_smaller_degree(degree):
    """Largest degree whose rule has fewer nodes."""
    count = len(lebedev(degree)[0])
    return max(d for d in range(1, degree) if len(lebedev(d)[0]) < count)


@pytest.mark.parametrize(("lmax", "beta", "alpha"), [(2, 8, 7), (3, 10, 11)])
def test_e3nns_own_grids_give_the_product_at_their_threshold_and_not_below(lmax, beta, alpha):
    """e3nn's equispaced grid: even res_beta > l1 + l2 + l3 and res_alpha > l1 + l2 + l3."""
    ins = "+".join(f"1x{l}{'eo'[l % 2]}" for l in range(lmax + 1))
    product = tensor_product("gaunt/grid", ins, ins, ins)
    x, y = torch.randn(2, 5, (lmax + 1) ** 2, dtype=F64)
    expected = product(x, y, torch.ones(product.weight_numel, dtype=F64))

    def error(beta, alpha):
        before = torch.get_default_dtype()
        torch.set_default_dtype(F64)  # else e3nn's tables are rounded to float32
        try:
            to = o3.ToS2Grid(lmax, (beta, alpha), "integral")
            back = o3.FromS2Grid((beta, alpha), lmax, "integral")
        finally:
            torch.set_default_dtype(before)
        return float((back(to(x) * to(y)) - expected).abs().max())

    assert error(beta, alpha) < 1e-11
    assert error(beta - 2, alpha) > 1e-3
    assert error(beta, alpha - 2) > 1e-3


def test_no_cross_product_and_no_pseudo_tensor_from_natural_inputs():
    product = tensor_product("gaunt/grid", "1x0e+1x1o+1x2e", "0e+1o+2e", "0e+1o+2e+1e+2o+0o")
    assert {str(ir) for _, ir in product.irreps_out} == {"0e", "1o", "2e"}
    dense = product.materialize(torch.randn(product.weight_numel, dtype=F64))
    odd = [(1, 2, 2), (2, 1, 2), (1, 1, 1), (2, 2, 1)]
    for a, b, c in odd:
        block = dense[a**2 : (a + 1) ** 2, b**2 : (b + 1) ** 2, c**2 : (c + 1) ** 2]
        assert block.abs().max() < 1e-13


def test_separable_sums_multiply_less_from_degree_4_on():
    """Entries of the tables that each signal is multiplied with, dense grid against the sums."""
    for lmax in (4, 6, 8):
        ins = "+".join(f"1x{l}{'eo'[l % 2]}" for l in range(lmax + 1))
        dense = tensor_product("gaunt/grid", ins, ins, nodes="gauss").to_nodes1.numel()
        separable = tensor_product("gaunt/separable", ins, ins)
        beta = separable.legendre1.shape[2]
        sums = separable.legendre1[0].numel() + separable.fourier1.numel() * beta
        assert sums < dense / (0.4 * lmax)
