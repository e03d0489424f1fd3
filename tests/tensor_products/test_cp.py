"""CP factors: stored residuals, exact ranks, bounds; the layer is O(3)-strict at any rank."""

import pytest
import torch
from e3nn import o3
from tpcalc.errors import InputError
from tpcalc.tensor_products import convolution, tensor_product
from tpcalc.tensor_products.shared.cp_factors import (
    EXACT_RANK,
    load_factors,
    save_factors,
    stored_errors,
    stored_ranks,
    target_tensor,
)

F64 = torch.float64
NATURAL = ("3x0e+3x1o+3x2e", "0e+1o+2e", "0e+1o+2e")
ALL = ("3x0e+3x1o+3x2e", "0e+1o+2e")


def residual(dense, factors):
    """By numpy, one slice at a time: not the library's own line."""
    a, b, c = (f.numpy() for f in factors[:3])
    rebuilt = sum(a[:, None, None, r] * b[None, :, None, r] * c[None, None, :, r]
                  for r in range(a.shape[1]))  # fmt: skip
    return float(((rebuilt - dense.numpy()) ** 2).sum() ** 0.5 / dense.norm())


@pytest.mark.parametrize("key", stored_errors())
def test_stored_residual_is_the_recomputed_one(key):
    kind, lmax, rank = key.split("-")
    factors = load_factors(int(lmax), kind, int(rank))
    found = residual(target_tensor(int(lmax), kind), factors)
    assert found == pytest.approx(factors.error, rel=1e-6, abs=2e-15)


@pytest.mark.parametrize(("kind", "lmax"), EXACT_RANK)
def test_exact_ranks_reach_round_off(kind, lmax):
    assert residual(target_tensor(lmax, kind), load_factors(lmax, kind)) < 1e-13
    earlier = {"all": (8, 33, 104), "natural": (6, 20, 62)}[kind][lmax - 1]  # the design's bounds
    assert EXACT_RANK[kind, lmax] <= earlier
    assert residual(target_tensor(lmax, kind), load_factors(lmax, kind, earlier)) < 1e-13


@pytest.mark.parametrize(("kind", "lmax"), EXACT_RANK)
def test_error_falls_with_rank_and_respects_the_svd_bound(kind, lmax):
    dense = target_tensor(lmax, kind)
    errors = [load_factors(lmax, kind, rank).error for rank in stored_ranks(lmax, kind)]
    rounded = [max(error, 1e-13) for error in errors]
    assert rounded == sorted(rounded, reverse=True)
    for rank, error in zip(stored_ranks(lmax, kind), errors):
        for axis in range(3):
            singular = torch.linalg.svdvals(dense.movedim(axis, 0).flatten(1))
            assert error >= float(singular[rank:].norm() / dense.norm()) - 1e-15


@pytest.mark.parametrize("irreps", [NATURAL, ALL, ("2x0o+2x0e+2x1o+2x1e", "0e+1o+2e")])
@pytest.mark.parametrize("order", ["folded", "factors"])
def test_both_orders_are_the_shared_convolution(irreps, order):
    conv = convolution("shared/cp", *irreps, order=order)
    exact = convolution("shared/reference", *irreps)
    assert conv.tensor_product.exact
    feats = torch.randn(5, conv.irreps_node.dim, dtype=F64, requires_grad=True)
    vectors = torch.randn(12, 3, dtype=F64)
    w = torch.randn(12, conv.weight_numel, dtype=F64)
    senders, receivers = torch.randint(0, 5, (2, 12))
    out = conv(feats, conv.edge_basis(vectors), w, senders, receivers)
    want = exact(feats, exact.edge_basis(vectors), w, senders, receivers)
    torch.testing.assert_close(out, want, atol=1e-12, rtol=1e-12)
    scripted = torch.jit.script(conv)
    args = (conv.edge_basis(vectors), w, senders, receivers)
    torch.testing.assert_close(scripted(feats, *args), out)
    assert scripted(feats[:0], args[0][:0], w[:0], senders[:0], receivers[:0]).shape[0] == 0


def test_even_labels_take_the_factors_as_they_are():
    """SO(3) networks (TDN as published): no parity to keep, so no second product."""
    irreps = ("2x0e+2x1e+2x2e", "0e+1e+2e")
    cp, exact = (tensor_product(f"shared/{a}", *irreps) for a in ("cp", "reference"))
    assert cp.a.shape[1] == cp.rank == 30
    w = torch.randn(2, dtype=F64)
    torch.testing.assert_close(cp.materialize(w), exact.materialize(w), atol=1e-12, rtol=0)
    assert tensor_product("shared/cp", *irreps, rank=28).tensor_error < 0.02


def test_a_rank_above_the_exact_one_is_the_exact_one():
    """TDN's 7 L^2 = 28 is below the exact rank with odd paths (30), above it without (18)."""
    assert tensor_product("shared/cp", *NATURAL, rank=28).rank == 18
    assert tensor_product("shared/cp", *ALL, rank=28).rank == 28


def test_pairwise_channels():
    irreps = ("2x0e+2x1o+2x2e", "2x0e+2x1o+2x2e")
    cp, exact = (tensor_product(f"shared/{a}", *irreps) for a in ("cp", "reference"))
    w = torch.randn(2, dtype=F64)
    torch.testing.assert_close(cp.materialize(w), exact.materialize(w), atol=1e-12, rtol=0)


@pytest.mark.parametrize(("irreps", "rank"), [(NATURAL, 16), (ALL, 28)])
def test_low_rank_breaks_rotation_within_its_bound_and_never_inversion(irreps, rank):
    product = tensor_product("shared/cp", *irreps, rank=rank)
    assert not product.exact
    assert 1e-3 < product.tensor_error < 0.3
    w = torch.ones(product.weight_numel, dtype=F64)
    dense = product.materialize(w)
    exact = tensor_product("shared/reference", *irreps).materialize(w)
    error = float((dense - exact).norm())
    # 3 channels carry 3 copies of the tensor
    assert error == pytest.approx(product.tensor_error * float(exact.norm()), rel=1e-6)
    lists = (product.irreps_in1, product.irreps_in2, product.irreps_out)
    before = torch.get_default_dtype()
    torch.set_default_dtype(F64)
    try:
        matrix = o3.rand_matrix()
        rotation = [irreps.D_from_matrix(matrix) for irreps in lists]
        parity = [irreps.D_from_matrix(-torch.eye(3)) for irreps in lists]
    finally:
        torch.set_default_dtype(before)
    turned = torch.einsum("ijk,ia,jb,kc->abc", dense, *rotation)
    defect = float((turned - dense).norm())
    assert 1e-3 < defect <= 2 * error
    mirrored = torch.einsum("ijk,ia,jb,kc->abc", dense, *parity)
    torch.testing.assert_close(mirrored, dense, atol=1e-12, rtol=0)


def test_tdn_schedule_is_stored_with_the_errors_of_the_literature():
    """R = 7 L^2 with all paths: 1.6e-2, below 2.4e-2 and 6e-2 (reference/tensor_products.md)."""
    for lmax, low, high in ((1, 1.5e-2, 1.8e-2), (2, 1e-2, 2.5e-2), (3, 1e-2, 6.5e-2)):
        assert low < load_factors(lmax, "all", 7 * lmax**2).error < high


def test_fit_finds_the_exact_rank_of_degree_1(tmp_path):
    from tpcalc.analysis.cp_fit import fit, main

    dense = target_tensor(1, "natural")
    factors = fit(dense, 6, seconds=20)
    assert residual(dense, factors) < 1e-14
    file = tmp_path / "own.safetensors"
    save_factors(1, "natural", factors, file)
    irreps = ("2x0e+2x1o", "0e+1o", "0e+1o")
    product = tensor_product("shared/cp", *irreps, rank=6, factors=str(file))
    assert product.tensor_error < 1e-14
    assert main(["--lmax", "1", "--rank", "3", "--seconds", "1", "--out", str(file)]) == 0
    assert stored_ranks(1, "all", file) == [3]
    assert stored_ranks(1, "natural", file) == [6]


@pytest.mark.parametrize(
    ("options", "irreps", "sentence"),
    [
        ({"rank": 7}, NATURAL, r"no CP factors of rank 7 for degree 2 \(natural paths\); stored"),
        ({"rank": 0}, NATURAL, "rank=0; a whole number"),
        ({"order": "fold"}, NATURAL, "unknown order 'fold'; did you mean 'folded'"),
        ({}, ("1x0e+1x4e", "0e+1o", "4e"), "factors for degrees up to 3, not 4"),
        ({"factors": "nowhere"}, NATURAL, "no file of CP factors at nowhere"),
    ],
)
def test_errors_say_what_to_do(options, irreps, sentence):
    with pytest.raises(InputError, match=sentence):
        tensor_product("shared/cp", *irreps, **options)
