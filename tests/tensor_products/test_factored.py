"""gaunt_full, matrix and vector against integrals, traces and selection rules."""

import math

import pytest
import torch
from e3nn import o3
from tpcalc.errors import InputError
from tpcalc.o3.quadrature import gauss_fourier
from tpcalc.tensor_products import tensor_product

F64 = torch.float64
IN = "1x0e+1x1o+1x2e"
EVERY = "0e+0o+1e+1o+2e+2o"


def dense_of(variant, in1=IN, in2=IN, out=EVERY, **options):
    """The tensor for unit weights, its paths, and the slices of the outputs."""
    product = tensor_product(variant, in1, in2, out, **options)
    dense = product.materialize(torch.ones(product.weight_numel, dtype=F64))
    slices = {str(ir): s for (_, ir), s in zip(product.irreps_out, product.irreps_out.slices())}
    return dense, product, slices


def tangential_gradients(l, points):
    points = points.clone().requires_grad_(True)
    y = o3.spherical_harmonics(l, points, True, "integral")
    grads = [torch.autograd.grad(y[:, m].sum(), points, retain_graph=True)[0]
             for m in range(2 * l + 1)]  # fmt: skip
    return torch.stack(grads, 1)  # [n, 2l+1, 3]


@pytest.mark.parametrize("degrees", [(1, 1, 1), (1, 2, 2), (2, 2, 1), (2, 1, 2)])
def test_bracket_is_the_integral_of_crossed_gradients(degrees):
    l1, l2, l3 = degrees
    points, weights = gauss_fourier(12, 24)
    g1, g2 = tangential_gradients(l1, points), tangential_gradients(l2, points)
    y3 = o3.spherical_harmonics(l3, points, True, "integral")
    crossed = torch.linalg.cross(g1[:, :, None], g2[:, None, :], dim=-1)
    expected = torch.einsum("n,nijd,nd,nk->ijk", weights, crossed, points, y3)
    dense, _, slices = dense_of("gaunt_full/reference")
    out = slices[f"{l3}{'eo'[(l1 + l2) % 2]}"]
    block = dense[l1**2 : (l1 + 1) ** 2, l2**2 : (l2 + 1) ** 2, out]
    torch.testing.assert_close(block, expected, atol=1e-12, rtol=0)


def test_gaunt_full_is_gaunt_where_the_sum_is_even():
    dense, _, _ = dense_of("gaunt_full/grid", out="0e+1o+2e")
    gaunt, _, _ = dense_of("gaunt/reference", out="0e+1o+2e")
    torch.testing.assert_close(dense, gaunt, atol=1e-13, rtol=0)


def test_bracket_gives_pseudo_tensors_only():
    """From natural-parity inputs: 0o stays empty (no odd path leads to degree 0)."""
    product = tensor_product("gaunt_full/reference", IN, IN, EVERY)
    w = torch.ones(1, sum(product.sizes), dtype=F64)
    for n, label in enumerate(
        label for labels in product.labels_of_operands for label in labels
    ):  # fmt: skip
        w[0, n] = float(label.tag == "bracket")
    dense = product.materialize(w.flatten())
    slices = {str(ir): s for (_, ir), s in zip(product.irreps_out, product.irreps_out.slices())}
    assert all(dense[..., slices[ir]].abs().max() < 1e-14 for ir in ("0e", "1o", "2e"))
    assert all(dense[..., slices[ir]].abs().max() > 0.1 for ir in ("1e", "2o"))


@pytest.mark.parametrize("nodes", ["gauss", "lebedev"])
@pytest.mark.parametrize("variant", ["gaunt_full", "vector"])
def test_both_node_rules_are_exact(variant, nodes):
    dense, _, _ = dense_of(f"{variant}/grid", nodes=nodes)
    expected, _, _ = dense_of(f"{variant}/reference")
    torch.testing.assert_close(dense, expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("variant", ["gaunt_full/grid", "vector/grid"])
def test_under_resolved_nodes_are_refused(variant):
    with pytest.raises(InputError, match="cannot integrate degree"):
        tensor_product(variant, IN, IN, nodes=(2, 5))


@pytest.mark.parametrize("function", ["cg", "gaunt_full", "matrix", "vector"])
def test_cross_product_is_present(function):
    dense, _, _ = dense_of(f"{function}/reference", "1x1o", "1x1o", "1e")
    x, y = torch.randn(2, 3, dtype=F64)
    z = torch.einsum("ijk,i,j->k", dense, x, y)
    ratio = z / torch.linalg.cross(x, y)
    torch.testing.assert_close(ratio, ratio[:1].expand(3))
    assert ratio[0].abs() > 0.05


@pytest.mark.parametrize("function", ["gaunt_full", "matrix", "vector"])
def test_every_path_is_reached_and_nothing_else(function):
    """Random weights: each block is a multiple of wigner_3j, none is zero."""
    product = tensor_product(f"{function}/reference", IN, IN, EVERY)
    dense = product.materialize(torch.randn(product.weight_numel, dtype=F64))
    for p in product.paths:
        s1 = product.irreps_in1.slices()[p.in1]
        s2 = product.irreps_in2.slices()[p.in2]
        s3 = product.irreps_out.slices()[p.out]
        block = dense[s1, s2, s3]
        w3j = o3.wigner_3j(p.l1, p.l2, p.l3, dtype=F64)
        factor = (block * w3j).sum()
        assert abs(factor) > 1e-4, p
        torch.testing.assert_close(block, factor * w3j, atol=1e-13, rtol=0)
        dense[s1, s2, s3] = 0
    assert dense.abs().max() < 1e-13


def test_scalar_one_is_the_identity_of_the_matrix_product():
    product = tensor_product("matrix/matmul", "2x0e+2x1o+2x2e", "0e")
    x = torch.randn(5, 18, dtype=F64)
    ones = torch.ones(product.weight_numel, dtype=F64)
    torch.testing.assert_close(product(x, torch.ones(5, 1, dtype=F64), ones), x)


def test_matrix_product_does_not_commute_and_keeps_parities_apart():
    product = tensor_product("matrix/matmul", "1x0e+1x1o", "1x0e+1x1o", "0e+1o+1e")
    x, y = torch.randn(2, 4, dtype=F64)
    ones = torch.ones(product.weight_numel, dtype=F64)
    forth, back = product(x, y, ones), product(y, x, ones)
    slices = {str(ir): s for (_, ir), s in zip(product.irreps_out, product.irreps_out.slices())}
    torch.testing.assert_close(forth[slices["0e"]], back[slices["0e"]])
    torch.testing.assert_close(forth[slices["1e"]], -back[slices["1e"]])


def test_vector_fields_are_crossed_pointwise():
    """j = 1, l = 0 fields are constant vectors: their product is the plain cross product."""
    product = tensor_product("vector/grid", "1x1o", "1x1o", "1e")
    names = [label for labels in product.labels_of_operands for label in labels]
    w = torch.tensor([float(label.tag == 0) for label in names], dtype=F64)
    x, y = torch.randn(2, 3, dtype=F64)
    # each constant field is x / sqrt(4 pi); projecting back gives another 1 / sqrt(4 pi) * 4 pi
    expected = torch.linalg.cross(x, y) / math.sqrt(4 * math.pi)
    torch.testing.assert_close(product(x, y, w), expected, atol=1e-13, rtol=0)


@pytest.mark.parametrize(
    ("variant", "terms"), [("gaunt_full:2/grid", 2), ("matrix:2/matmul", 2), ("vector:2/grid", 2)]
)
def test_terms_add_up(variant, terms):
    one = tensor_product(variant.replace(":2", ""), "2x0e+2x1o", "0e+1o")
    many = tensor_product(variant, "2x0e+2x1o", "0e+1o")
    assert many.terms == terms
    w = torch.randn(terms, one.weight_numel, dtype=F64)
    expected = sum(one.materialize(row) for row in w)
    torch.testing.assert_close(many.materialize(w.flatten()), expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("algorithm", ["reference", "grid"])
def test_pairs_of_channels(algorithm):
    product = tensor_product(f"vector/{algorithm}", "2x0e+2x1o", "2x0e+2x1o")
    scripted = torch.jit.script(product)
    x, y = torch.randn(2, 3, 8, dtype=F64)
    w = torch.randn(3, product.weight_numel, dtype=F64)
    torch.testing.assert_close(scripted(x, y, w), product(x, y, w))
