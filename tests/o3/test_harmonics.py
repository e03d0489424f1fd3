"""Harmonics and layouts against e3nn."""

import pytest
import torch
from e3nn import o3
from tpcalc.o3.harmonics import SphericalHarmonics
from tpcalc.o3.layout import to_ir_mul, to_mul_ir
from tpcalc.tensor_products.gaunt.grid import choose_nodes

F64 = torch.float64


@pytest.mark.parametrize("lmax", [0, 1, 2, 3, 6, 10])
def test_equal_to_e3nn(lmax):
    r = torch.randn(40, 3, dtype=F64)
    r[:3] = torch.tensor([[0.0, 1.0, 0.0], [0.0, -2.0, 0.0], [0.0, 0.0, 3.0]])
    expected = o3.spherical_harmonics(list(range(lmax + 1)), r, True, "component")
    module = torch.jit.script(SphericalHarmonics(lmax))
    torch.testing.assert_close(module(r), expected, atol=1e-12, rtol=0)
    assert (module(r.float()) - expected).abs().max() < 1e-5


def test_two_derivatives_and_zero_length():
    module = SphericalHarmonics(3)
    r = torch.randn(4, 3, dtype=F64, requires_grad=True)
    assert torch.autograd.gradcheck(module, (r,))
    assert torch.autograd.gradgradcheck(module, (r,))
    zero = torch.zeros(1, 3, dtype=F64, requires_grad=True)
    y = module(zero)
    assert y[0, 0] == 1
    assert not y[0, 1:].any()
    (grad,) = torch.autograd.grad(y.sum(), zero)
    assert torch.isfinite(grad).all()


def test_layouts_are_inverse_and_as_named():
    irreps = o3.Irreps("2x0e+3x1o")
    x = torch.arange(11.0)  # mul_ir: (a)(b) (xyz)(xyz)(xyz)
    assert to_ir_mul(x, irreps)[2:5].tolist() == [2.0, 5.0, 8.0]  # the x of all channels first
    assert torch.equal(to_mul_ir(to_ir_mul(x, irreps), irreps), x)


@pytest.mark.parametrize("rule", ["lebedev", "gauss"])
@pytest.mark.parametrize("lmax", [1, 3, 6])
def test_orthonormal_under_the_quadrature_that_is_chosen(rule, lmax):
    """All degrees with all degrees: the smallest rule of degree 2 lmax integrates them."""
    points, weights = choose_nodes(rule, 2 * lmax)
    y = o3.spherical_harmonics(list(range(lmax + 1)), points, True, "integral")
    overlap = torch.einsum("n,ni,nj->ij", weights, y, y)
    torch.testing.assert_close(overlap, torch.eye((lmax + 1) ** 2, dtype=F64), atol=1e-12, rtol=0)


def test_wigner_3j_is_pinned():
    """The convention all couplings rest on: e3nn's real basis, Frobenius norm 1, invariant."""
    turn, _ = torch.linalg.qr(torch.randn(3, 3, dtype=F64))
    turn = turn * torch.det(turn)
    d = [_wigner(l, turn) for l in range(5)]
    for a in range(5):
        for b in range(5):
            for c in range(abs(a - b), min(a + b, 4) + 1):
                w = o3.wigner_3j(a, b, c, dtype=F64)
                assert abs(w.norm().item() - 1) < 1e-12
                turned = torch.einsum("ijk,ai,bj,ck->abc", w, d[a], d[b], d[c])
                torch.testing.assert_close(turned, w, atol=1e-12, rtol=0)
    epsilon = torch.zeros(3, 3, 3, dtype=F64)
    for i, j, k in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        epsilon[i, j, k], epsilon[j, i, k] = 1, -1
    torch.testing.assert_close(o3.wigner_3j(1, 1, 1, dtype=F64), epsilon / 6**0.5)


def _wigner(l, rotation):
    """D from harmonics alone: Y(R r) = D Y(r)."""
    r = torch.randn(60, 3, dtype=F64)
    y, turned = (o3.spherical_harmonics(l, p, True) for p in (r, r @ rotation.T))
    return torch.linalg.lstsq(y, turned).solution.T
