"""The emulated CUDA kernels beside the CPU's, in a process of their own: they take their place."""

import pytest
import torch
from tpcalc.tensor_products import convolution, many_body

NONE = torch.zeros(0, dtype=torch.long)
ALL = [True] * 3


class Case:
    """Inputs of every op, 9 senders and 4 receivers, channel numbers with tails."""

    def __init__(self, variant: str, dtype: torch.dtype):
        irreps = "40x0e+40x1o+33x2e" if variant == "cg/fused" else "33x0e+33x1o+33x2e"
        product = convolution(variant, irreps, "0e+1o+2e").tensor_product
        self.dtype, self.out_dim = dtype, product.out_dim
        self.tables = (product.op_paths, product.op_couplings, product.op_coef)
        columns = product.op_weights(torch.zeros(1, product.weight_numel)).shape[1]
        sizes = ((9, product.irreps_in1.dim), (20, 9), (20, columns), (1, 23, columns))
        self.h, self.y, self.w, self.spline = (torch.randn(*s, dtype=dtype) for s in sizes)
        self.r = torch.rand(20, dtype=dtype) * 6  # some beyond the splines
        self.g = torch.randn(4, self.out_dim, dtype=dtype)
        self.edges = (torch.randint(9, (20,)), torch.randint(4, (20,)))

    def run(self) -> list[torch.Tensor]:
        ops, end = torch.ops.tpcalc, (4, self.out_dim)
        tail = (*self.edges, *self.tables)
        given = (self.h, self.y, self.w)
        splined = (self.h, self.y, self.r, NONE, self.spline, 0.25)
        return [
            ops.conv(*given, *tail, *end), *ops.conv_bwd(self.g, *given, *tail, ALL),
            ops.conv_radial(*splined, *tail, *end),
            *ops.conv_radial_bwd(self.g, *splined, *tail, ALL),
        ]  # fmt: skip


class PolynomialCase:
    """`poly` and two derivatives, tails of channels, a species without nodes."""

    def __init__(self, dtype: torch.dtype):
        product = many_body("cg/fused", "33x0e+33x1o+33x2e", "0e+1o", 3, 3)
        self.dtype = dtype
        tail = (torch.randint(2, (7,)), product.op_monomials, product.op_terms)
        x, g = torch.randn(7, 9, 33, dtype=dtype), torch.randn(7, 4, 33, dtype=dtype)
        coef = product.op_coefficients().detach().to(dtype)
        self.args = (x, coef, *tail)
        self.g, self.tangents = g, (torch.randn_like(x), torch.randn_like(coef))

    def run(self) -> list[torch.Tensor]:
        ops = torch.ops.tpcalc
        return [
            ops.poly(*self.args, 4), *ops.poly_bwd(self.g, *self.args, True),
            ops.poly_bwd(self.g, *self.args, False)[0],
            *ops.poly_double_bwd(self.g, *self.args, *self.tangents),
        ]  # fmt: skip


def main(library: str) -> None:
    """Raises AssertionError where the two differ."""
    torch.manual_seed(0)
    names = ("cg/fused", "shared/fused", "gaunt/fused")
    dtypes = (torch.float32, torch.float64)
    cases = [Case(name, dtype) for name in names for dtype in dtypes]
    cases += [PolynomialCase(dtype) for dtype in dtypes]
    wanted = [case.run() for case in cases]
    torch.ops.load_library(library)
    for case, want in zip(cases, wanted):
        tolerance = 1e-12 if case.dtype == torch.float64 else 1e-5
        for a, b in zip(case.run(), want):
            assert a.shape == b.shape
            assert (a - b).abs().max() <= tolerance * max(1.0, float(b.abs().max()))
    case = cases[0]
    case.edges = (case.edges[0] + 5, case.edges[1])
    with pytest.raises(RuntimeError, match="senders lie outside"):
        case.run()
    print("equal")
