"""Harmonics and layouts against e3nn."""

import pytest
import torch
from e3nn import o3
from tpcalc.o3.harmonics import SphericalHarmonics
from tpcalc.o3.layout import to_ir_mul, to_mul_ir

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
