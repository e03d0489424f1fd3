"""The ops around the convolution against torch's own operations, to second derivatives."""

import copy
import math

import pytest
import torch
from e3nn.o3 import Irreps, spherical_harmonics
from tpcalc.kernels.ops import load_ops, use_ops
from tpcalc.nn.cutoff import PolynomialCutoff, XplorCutoff
from tpcalc.nn.double import EdgeLengths
from tpcalc.nn.gate import Gate
from tpcalc.nn.linear import Linear, SpeciesLinear
from tpcalc.nn.radial import SILU_NORM, BesselBasis, RadialMLP
from tpcalc.nn.readout import ScalarReadout
from tpcalc.o3.harmonics import SphericalHarmonics

IRREPS = [  # tails of every vector width, one channel, several degrees, both parities
    ("5x0e+3x1o+2x2e", "7x0e+3x1o+1x2e"),
    ("64x0e+64x1o", "64x0e+32x1o"),
    ("1x0e+1x3o", "1x0e+17x3o"),
    ("33x0o+4x0e+9x1e+20x1o", "6x0o+19x0e+16x1e+2x1o"),
]
ROWS = [0, 1, 6, 7, 37]


@pytest.fixture(scope="module", autouse=True)
def ops():
    load_ops(progress=False)


def both(module):
    """A double-precision module and a copy that runs as ops."""
    module = module.double()
    other = copy.deepcopy(module)
    use_ops(other, True)
    assert any(part.as_op for part in other.modules() if hasattr(part, "as_op"))
    return module, other


def agree(plain, fused, inputs, extra=()):
    """Values, gradients and gradients of gradients (of inputs and weights) to 1e-11."""
    found = []
    for module in (plain, fused):
        leaves = [x.detach().clone().requires_grad_(True) for x in inputs]
        y = module(*leaves, *extra)
        weights = [p for p in module.parameters() if p.requires_grad]
        first = torch.autograd.grad((y**3).sum(), leaves, create_graph=True)
        mixed = sum((g**2).sum() for g in first)
        second = torch.autograd.grad(mixed, [*leaves, *weights], allow_unused=True)
        with torch.no_grad():
            value = module(*leaves, *extra)
        torch.testing.assert_close(value, y.detach())
        found.append([y, *first, *(s for s in second if s is not None)])
    assert len(found[0]) == len(found[1])
    for a, b in zip(*found):
        torch.testing.assert_close(b, a, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("irreps", IRREPS)
def test_linear(irreps, rows):
    torch.manual_seed(0)
    irreps_in, irreps_out = map(Irreps, irreps)
    plain, fused = both(Linear(irreps_in, irreps_out))
    x = torch.randn(rows, irreps_in.dim, dtype=torch.float64)
    agree(plain, fused, [x])
    added = torch.randn(rows, irreps_out.dim, dtype=torch.float64)
    scaled = [
        lambda x, a, m=m: m(x, 0.3, a)  # positional: TorchScript calls it so
        for m in (plain, fused)
    ]
    torch.testing.assert_close(*(f(x, added) for f in scaled), rtol=1e-12, atol=1e-12)
    x.requires_grad_(True), added.requires_grad_(True)
    grads = [torch.autograd.grad((f(x, added) ** 2).sum(), [x, added]) for f in scaled]
    torch.testing.assert_close(*grads, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("num_species", [1, 3, 12])
@pytest.mark.parametrize("rows", ROWS[1:])
def test_a_matrix_for_each_species(num_species, rows):
    torch.manual_seed(0)
    irreps_in, irreps_out = map(Irreps, IRREPS[0])
    plain, fused = both(SpeciesLinear(irreps_in, irreps_out, num_species))
    species = torch.randint(num_species, (rows,))
    one_hot = torch.nn.functional.one_hot(species, num_species).double()
    x = torch.randn(rows, irreps_in.dim, dtype=torch.float64)
    agree(plain, fused, [x], (species, one_hot))


@pytest.mark.parametrize("sizes", [(8, [64], 200), (3, [5, 7], 1), (1, [], 9), (8, [64, 64], 33)])
@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("envelope", [True, False])
def test_network(sizes, rows, envelope):
    torch.manual_seed(0)
    plain, fused = both(RadialMLP(*sizes))
    inputs = [torch.randn(rows, n, dtype=torch.float64) for n in (sizes[0], 1)][: 1 + envelope]
    agree(plain, fused, inputs)
    frozen = [m.requires_grad_(False) for m in (plain, fused)]  # the fused backward
    grads = []
    for module in frozen:
        leaves = [x.clone().requires_grad_(True) for x in inputs]
        grads.append(torch.autograd.grad((module(*leaves) ** 2).sum(), leaves))
    for a, b in zip(*grads):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)
    agree(*frozen, inputs)


@pytest.mark.parametrize("hidden", [0, 16])
def test_readout(hidden):
    torch.manual_seed(0)
    plain, fused = both(ScalarReadout(12, hidden))
    agree(plain, fused, [torch.randn(9, 12, dtype=torch.float64)])


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("irreps", [a for a, _ in IRREPS] + ["4x0e", "3x0o"])
def test_gate(irreps, rows):
    torch.manual_seed(0)
    plain, fused = both(Gate(Irreps(irreps)))
    x = torch.randn(rows, plain.irreps_in.dim, dtype=torch.float64)
    agree(plain, fused, [x])


@pytest.mark.parametrize("lmax", range(1, 7))
def test_harmonics_are_those_of_e3nn(lmax):
    torch.manual_seed(0)
    plain, fused = both(SphericalHarmonics(lmax))
    vectors = torch.randn(21, 3, dtype=torch.float64)
    expected = spherical_harmonics(list(range(lmax + 1)), vectors, True, "component")
    torch.testing.assert_close(fused(vectors), expected, rtol=1e-12, atol=1e-12)
    agree(plain, fused, [vectors])
    agree(plain, fused, [vectors[:0]])


def test_harmonics_of_an_edge_without_direction():
    """Y_0 alone, and gradients that are numbers."""
    _, fused = both(SphericalHarmonics(3))
    vectors = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
    y = fused(vectors)
    assert torch.equal(y[:, 0], torch.ones(2, dtype=torch.float64))
    assert not y[:, 1:].any()
    (g,) = torch.autograd.grad(y.sum(), vectors)
    assert torch.isfinite(g).all()


class OfEdges(torch.nn.Module):
    """Features and lengths of edges side by side: [E, num_basis + 1]."""

    def __init__(self, basis):
        super().__init__()
        self.basis = basis

    def forward(self, edge_vectors):
        features, lengths = self.basis.of_edges(edge_vectors)
        return torch.cat([features, lengths.to(features.dtype).unsqueeze(1)], 1)


def edge_vectors(rows):
    """Lengths 0.5 to 6.5, so beyond the cutoff of 5 too, whatever the direction."""
    directions = torch.nn.functional.normalize(torch.randn(rows, 3, dtype=torch.float64))
    return directions * torch.linspace(0.5, 6.5, rows, dtype=torch.float64).unsqueeze(1)


CUTOFFS = [
    *(PolynomialCutoff(5.0, p) for p in (2.0, 5.0, 6.0, 4.5)),
    XplorCutoff(5.0, 4.0), XplorCutoff(5.0, 0.0),
]  # fmt: skip


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("envelope", CUTOFFS)
def test_features_of_edges(envelope, rows):
    torch.manual_seed(0)
    plain, fused = both(OfEdges(BesselBasis(5.0, 8, envelope=envelope)))
    plain.basis.frequencies[3] *= 1.01  # trained ones are no multiples of the first
    fused.basis.frequencies.copy_(plain.basis.frequencies)
    agree(plain, fused, [edge_vectors(rows)])


def test_features_of_edges_are_the_formula():
    """sqrt(2/rc) sin(n pi r/rc) / r (1 - 28 x^6 + 48 x^7 - 21 x^8), far frequencies too."""
    basis = BesselBasis(5.0, 400, 6.0, "mace")
    use_ops(basis, True)
    vectors = edge_vectors(40)
    r = vectors.norm(dim=1, keepdim=True)
    x, n = r / 5.0, torch.arange(1, 401, dtype=torch.float64)
    fall = torch.where(x < 1, 1 - 28 * x**6 + 48 * x**7 - 21 * x**8, 0.0)
    expected = math.sqrt(2 / 5) * torch.sin(n * math.pi * x) / r * fall
    features, lengths = basis.of_edges(vectors)
    torch.testing.assert_close(features, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(lengths, r.squeeze(1), rtol=1e-15, atol=0)


@pytest.mark.parametrize("as_op", [False, True])
def test_float32_models_have_the_features_of_float64(as_op):
    """Rounded once, at the end; frequencies stay float64."""
    basis, vectors = BesselBasis(5.0, 8), edge_vectors(50).float()
    exact = basis.of_edges(vectors.double())
    basis.float()
    use_ops(basis, as_op)
    assert basis.frequencies.dtype == torch.float64
    vectors.requires_grad_(True)
    features, lengths = basis.of_edges(vectors)
    assert features.dtype == torch.float32
    assert lengths.dtype == torch.float64
    torch.testing.assert_close(features, exact[0].float(), rtol=1.2e-7, atol=1e-12)
    torch.testing.assert_close(lengths, exact[1], rtol=1e-15, atol=0)
    (g,) = torch.autograd.grad(lengths.sum(), vectors)  # features unused
    torch.testing.assert_close(g, (vectors / lengths.unsqueeze(1)).float())


def test_lengths_of_edges():
    torch.manual_seed(0)
    plain, fused = both(OfEdges(EdgeLengths()))
    agree(plain, fused, [edge_vectors(37)])
    agree(plain, fused, [edge_vectors(0)])


def test_float32_is_the_float64_to_its_round_off():
    torch.manual_seed(0)
    for module, columns in ((RadialMLP(8, [64], 200), 8), (Gate(Irreps(IRREPS[0][0])), None)):
        _, fused = both(module)
        x = torch.randn(300, columns or module.irreps_in.dim, dtype=torch.float64)
        exact = fused(x)
        single = fused.float()(x.float())
        assert (single - exact).abs().max() < 2e-6 * exact.abs().max() * math.sqrt(64)


def test_the_same_for_any_number_of_threads():
    """No sum is divided among threads, but for the gradient of weights, which pieces make whole."""
    torch.manual_seed(0)
    irreps = Irreps("64x0e+64x1o+64x2e")
    layer = Linear(irreps, irreps).float()
    use_ops(layer, True)
    x = torch.randn(500, irreps.dim, requires_grad=True)
    threads, found = torch.get_num_threads(), []
    try:
        for n in (1, 2, 3):
            torch.set_num_threads(n)
            y = layer(x)
            found.append([y, *torch.autograd.grad((y**2).sum(), [x, layer.weight])])
    finally:
        torch.set_num_threads(threads)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other))


def test_inputs_that_are_not_contiguous():
    torch.manual_seed(0)
    irreps = Irreps(IRREPS[0][0])
    plain, fused = both(Linear(irreps, irreps))
    x = torch.randn(irreps.dim, 9, dtype=torch.float64).t()
    agree(plain, fused, [x])
    torch.testing.assert_close(fused(x[::2]), plain(x[::2]), rtol=1e-12, atol=1e-12)


def test_wrong_arguments_are_told():
    op = torch.ops.tpcalc
    x, w = torch.randn(4, 6), torch.randn(12)
    none = torch.empty(0, dtype=torch.long)
    blocks = [0, 0, 1, 6, 2]
    with pytest.raises(RuntimeError, match="does not fit 6 columns in and 1 out"):
        op.linear(x, w, none, blocks, 1, 1, 1.0, False, None)
    with pytest.raises(RuntimeError, match="12 weights"):
        op.linear(x, w[:5], none, blocks, 1, 2, 1.0, False, None)
    with pytest.raises(IndexError, match="species 7 of node 0"):
        op.linear(x, w.repeat(2), torch.tensor([7, 0, 0, 0]), blocks, 2, 2, 1.0, False, None)
    with pytest.raises(RuntimeError, match="species must be an int64 CPU vector of 4"):
        op.linear(x, w.repeat(2), torch.tensor([0]), blocks, 2, 2, 1.0, False, None)
    with pytest.raises(RuntimeError, match="a matrix of 2 rows"):
        op.mlp(x, [torch.randn(6, 2), torch.randn(5, 2)], SILU_NORM)
    with pytest.raises(RuntimeError, match="float32 or float64 CPU matrix"):
        op.mlp(x.half(), [torch.randn(6, 2).half()], SILU_NORM)
    with pytest.raises(RuntimeError, match="columns"):
        op.gate(x, [0, 2, 3, 3], 1.0, 1.0)
    with pytest.raises(RuntimeError, match="columns"):
        op.harmonics(x, torch.zeros(4, 3, 3), 1)
    vectors, frequencies = torch.randn(4, 3), torch.ones(2, dtype=torch.float64)
    with pytest.raises(RuntimeError, match="edge vectors must be .* of 3 columns"):
        op.bessel(x, frequencies, 1.0, [1.0, 5.0, 6.0])
    with pytest.raises(RuntimeError, match="frequencies must be a float64 CPU vector"):
        op.bessel(vectors, frequencies.float(), 1.0, [1.0, 5.0, 6.0])
    for cutoff in ([4.0, 5.0, 6.0], [1.5, 5.0, 6.0], [1.0, 5.0]):
        with pytest.raises(RuntimeError, match="it must be .kind, radius, parameter"):
            op.bessel(vectors, frequencies, 1.0, cutoff)
    with pytest.raises(RuntimeError, match="gradient"):
        op.bessel_bwd(vectors[:3, :2], None, vectors, frequencies, 1.0, [1.0, 5.0, 6.0])
