"""Path-weight sharing is the Clebsch-Gordan product with its path weights tied."""

import pytest
import torch
from tpcalc.errors import InputError
from tpcalc.tensor_products import convolution, tensor_product
from tpcalc.tensor_products.shared.edge_matrix import EdgeMatrixConvolution

F64 = torch.float64


def test_tied_weights_of_cg():
    irreps = ("2x0e+2x1o+2x2e", "0e+1o+2e")
    cg = tensor_product("cg/e3nn", *irreps)
    shared = tensor_product("shared/reference", *irreps)
    w = torch.randn(2, dtype=F64)
    per_path = cg.materialize(w.repeat(len(cg.paths)))  # [in1, in2, paths' blocks]
    summed, start = [], 0
    for mul, ir in cg.irreps_out:
        block = per_path[..., start : start + mul * ir.dim]
        summed.append(block.unflatten(-1, (mul // 2, 2 * ir.dim)).sum(-2))
        start += mul * ir.dim
    torch.testing.assert_close(shared.materialize(w), torch.cat(summed, -1), atol=1e-12, rtol=0)


def test_edge_matrix_says_what_it_cannot_fold():
    with pytest.raises(InputError, match="folds a one-channel second operand; 2x0e has 2 channels"):
        tensor_product("shared/edge_matrix", "2x0e+2x1o", "2x0e")


@pytest.mark.parametrize("edges", [0, 1, 9, 20])
def test_edges_taken_in_portions_are_all_edges(edges):
    """Nine edges fill the portion here; values and both derivatives do not see it."""
    irreps = ("2x0e+2x1o", "0e+1o", "0e+1o")
    conv, whole = (convolution("shared/edge_matrix", *irreps) for _ in range(2))
    conv.cache_bytes = 9 * 8 * 8
    feats = torch.randn(5, 8, dtype=F64, requires_grad=True)
    w = torch.randn(edges, 2, dtype=F64, requires_grad=True)
    basis = torch.randn(edges, 4, 4, dtype=F64, requires_grad=True)
    ends = torch.randint(0, 5, (2, edges))
    assert type(conv) is EdgeMatrixConvolution
    assert sum(conv.portions(edges, feats)) == edges
    assert len(conv.portions(20, feats)) == 3
    for made in (conv, torch.jit.script(conv)):
        results = []
        for one in (made, whole):
            out = one(feats, basis, w, ends[0], ends[1])
            grads = torch.autograd.grad((out**2).sum(), (feats, basis, w), create_graph=True)
            second = torch.autograd.grad(sum((g**2).sum() for g in grads), (feats, basis, w))
            results.append((out, *grads, *second))
        torch.testing.assert_close(*results, atol=1e-11, rtol=1e-11)
