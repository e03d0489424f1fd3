"""Path-weight sharing is the Clebsch-Gordan product with its path weights tied."""

import pytest
import torch
from tpcalc.errors import InputError
from tpcalc.tensor_products import tensor_product

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
