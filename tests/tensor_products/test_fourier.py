"""The 2D Fourier form: series without leak, both convolutions, a real result."""

import math

import pytest
import torch
from e3nn import o3
from tpcalc.errors import InputError
from tpcalc.o3.gaunt import gaunt
from tpcalc.o3.torus import back_projection, fourier_coefficients
from tpcalc.tensor_products import tensor_product

F64 = torch.float64
IRREPS = ("2x0e+2x1o+2x2e+2x3o", "0e+1o+2e", "0e+1o+2e+3o")


@pytest.mark.parametrize("lmax", [1, 2, 4])
def test_series_is_the_harmonic_without_leak(lmax):
    """e3nn's harmonics at random angles, also on the far half of the torus."""
    beta, alpha = 2 * math.pi * torch.rand(2, 50, dtype=F64)
    points = torch.stack(
        [beta.sin() * alpha.sin(), beta.cos(), beta.sin() * alpha.cos()], 1
    )  # fmt: skip
    expected = o3.spherical_harmonics(list(range(lmax + 1)), points, True, "integral")
    u = torch.arange(-lmax, lmax + 1, dtype=F64)
    waves = torch.exp(1j * (beta[:, None, None] * u[:, None] + alpha[:, None, None] * u))
    series = torch.einsum("kuv,nuv->nk", fourier_coefficients(lmax), waves)
    torch.testing.assert_close(series.real, expected, atol=1e-12, rtol=0)
    assert series.imag.abs().max() < 1e-13


def test_sparsity_of_the_tables():
    """Only |v| = |m| and u = l mod 2 occur: the counts of the reference page."""
    for lmax, series, back in ((1, 11, 69), (2, 34, 353), (3, 86, 1013)):
        assert (fourier_coefficients(lmax).abs() > 1e-12).sum() == series
        assert (back_projection(2 * lmax, 2 * lmax).abs() > 1e-12).sum() == back


def test_back_projection_of_a_series_is_the_identity():
    overlap = torch.einsum("auv,kuv->ak", fourier_coefficients(3), back_projection(3, 3))
    torch.testing.assert_close(overlap.real, torch.eye(16, dtype=F64), atol=1e-13, rtol=0)
    assert overlap.imag.abs().max() < 1e-14


def test_trapezoid_of_the_published_benchmark_is_not_exact():
    """300 points with the end counted twice: what must not be copied is 1e-4 off or more."""
    u = torch.arange(-4, 5, dtype=F64)
    beta = torch.linspace(0, 2 * math.pi, 300, dtype=F64)[:150]
    weights = torch.full((150,), float(beta[1]), dtype=F64)
    weights[[0, -1]] /= 2
    rough = (torch.exp(1j * u[:, None] * beta) * beta.sin() * weights).sum(1) * math.pi**0.5
    exact = back_projection(0, 4)[0, :, 4]
    assert 1e-4 < (rough - exact).abs().max() < 1e-2


@pytest.mark.parametrize("terms", [1, 2])
def test_fft_direct_grid_and_coefficients_agree(terms):
    products = [
        tensor_product("gaunt/fourier", *IRREPS, terms=terms, method=method)
        for method in ("fft", "direct")
    ]
    products += [tensor_product(f"gaunt/{a}", *IRREPS, terms=terms) for a in ("grid", "reference")]
    w = torch.randn(products[0].weight_numel, dtype=F64)
    x = torch.randn(7, products[0].irreps_in1.dim, dtype=F64)
    y = torch.randn(7, products[0].irreps_in2.dim, dtype=F64)
    expected = products[-1](x, y, w)
    for product in products[:-1]:
        torch.testing.assert_close(product(x, y, w), expected, atol=1e-12, rtol=1e-12)
    z = products[1](x[:0], y[:0], w)
    assert z.shape == (0, products[0].irreps_out.dim)


@pytest.mark.parametrize("lmax", [1, 2, 3])
def test_product_of_two_harmonics_is_gaunts_integral(lmax):
    ins = "+".join(f"1x{l}{'eo'[l % 2]}" for l in range(lmax + 1))
    out = "+".join(f"{l}{'eo'[l % 2]}" for l in range(2 * lmax + 1))
    product = tensor_product("gaunt/fourier", ins, ins, out)
    dense = product.materialize(torch.ones(product.weight_numel, dtype=F64))
    k = 2 * lmax
    block = dense[lmax**2 :, lmax**2 :, k**2 : (k + 1) ** 2]
    torch.testing.assert_close(block, gaunt(lmax, lmax, k), atol=1e-12, rtol=0)


def test_the_product_of_real_functions_is_real():
    """What the back-projection drops: the imaginary part of the projected series."""
    product = tensor_product("gaunt/fourier", *IRREPS)
    x, y = torch.randn(6, 16, 2, dtype=F64), torch.randn(6, 9, 2, dtype=F64)
    f = product.series(product.table1, x, product.n1)
    g = product.series(product.table2, y, product.n2)
    h = product.multiply(f, g).flatten(-4, -2)
    z = torch.complex(product.table3[0], product.table3[1]).T @ h
    assert z.imag.abs().max() < 1e-14 * z.real.abs().max()


def test_direct_scripts_and_differentiates():
    product = tensor_product("gaunt/fourier", "2x0e+2x1o", "0e+1o", method="direct")
    scripted = torch.jit.script(product)
    x, y = torch.randn(3, 8, dtype=F64), torch.randn(3, 4, dtype=F64)
    w = torch.randn(3, product.weight_numel, dtype=F64)
    torch.testing.assert_close(scripted(x, y, w), product(x, y, w))
    inputs = tuple(t.requires_grad_(True) for t in (x, y, w))
    assert torch.autograd.gradcheck(product, inputs)


def test_unknown_method_is_named():
    with pytest.raises(InputError, match="unknown method 'ffft'; did you mean 'fft'"):
        tensor_product("gaunt/fourier", "1x0e+1x1o", "0e+1o", method="ffft")
