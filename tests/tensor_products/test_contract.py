"""What every variant promises. A new line in VARIANTS is tested here without an edit."""

import pytest
import torch
from e3nn import o3
from tpcalc.errors import InputError
from tpcalc.o3.layout import mul_ir_index
from tpcalc.tensor_products import VARIANTS, convolution, tensor_product, variant_class

F64 = torch.float64
UNIFORM = ("3x0e+3x1o+3x2e", "0e+1o+2e")
UNEVEN = ("3x0e+2x1o+4x2e", "0e+1o+2e")
CASES = {
    "uniform": UNIFORM,
    "pseudo": ("2x0o+2x0e+2x1o+2x1e", "0e+1o+2e"),
    "missing_degree": ("3x1o", "0e+1o+2e+3o"),
    "scalars": ("2x0e", "0e+1o+2e"),
    "one_channel": ("1x0e+1x1o", "0e+1o"),
    "small_output": ("2x1o+2x2e", "0e+1o+2e+3o", "0e+1o"),
    "large_output": ("2x0e+2x1o", "0e+1o+2e", "1o+2e+1e+3o"),
    "uneven": UNEVEN,
}
EXACT = [name for name in VARIANTS if variant_class(name).exact]
# only cg takes multiplicities that differ between degrees (DESIGN.md, section 2)
PAIRS = [(v, c) for v in EXACT for c in CASES if c != "uneven" or v.startswith("cg/")]


def edges(conv, num_nodes=6, num_edges=20, dtype=F64):
    return (
        torch.randn(num_nodes, conv.irreps_node.dim, dtype=dtype),
        torch.randn(num_edges, 3, dtype=dtype),
        torch.randn(num_edges, conv.weight_numel, dtype=dtype),
        torch.randint(0, num_nodes, (num_edges,)),
        torch.randint(0, num_nodes, (num_edges,)).sort().values,
    )


def apply(conv, feats, vectors, weights, senders, receivers):
    return conv(feats, conv.edge_basis(vectors), weights, senders, receivers)


@pytest.mark.parametrize(("variant", "case"), PAIRS)
def test_equals_reference(variant, case):
    product = tensor_product(variant, *CASES[case])
    reference = tensor_product(f"{product.function}/reference", *CASES[case])
    assert product.irreps_out == reference.irreps_out
    assert product.paths == reference.paths
    w = torch.randn(reference.weight_numel, dtype=F64)
    expected = reference.materialize(w)
    torch.testing.assert_close(product.materialize(w), expected, rtol=1e-12, atol=1e-12)
    single = product.materialize(w.float())
    assert (single - expected.float()).abs().max() < 1e-5 * expected.abs().max()


@pytest.mark.parametrize("variant", [v for v in VARIANTS if not v.startswith("cg/")])
def test_other_functions_refuse_uneven_multiplicities(variant):
    with pytest.raises(InputError, match="one multiplicity|common multiplicity"):
        tensor_product(variant, *UNEVEN)


@pytest.mark.parametrize(("variant", "case"), PAIRS)
def test_convolution_is_gather_product_sum(variant, case):
    conv = convolution(variant, *CASES[case])
    product = tensor_product(f"{variant.split('/')[0]}/reference", *CASES[case])
    feats, vectors, weights, senders, receivers = edges(conv)
    for tensor in (feats, vectors, weights):
        tensor.requires_grad_(True)
    out = apply(conv, feats, vectors, weights, senders, receivers)
    harmonics = o3.spherical_harmonics(conv.irreps_edge, vectors, True, "component")
    messages = product(feats[senders], harmonics, weights)
    expected = torch.zeros_like(out).index_add(0, receivers, messages)
    torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-12)
    assert out.is_contiguous()
    probe = torch.randn_like(out)
    grads = torch.autograd.grad((out * probe).sum(), (feats, vectors, weights))
    wanted = torch.autograd.grad((expected * probe).sum(), (feats, vectors, weights))
    for grad, want in zip(grads, wanted):
        torch.testing.assert_close(grad, want, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("variant", VARIANTS)
def test_rotation_inversion_and_rotoreflection(variant):
    """Values, and gradients by the edge vectors of a quadratic invariant of the output."""
    conv = convolution(variant, *UNIFORM)
    feats, vectors, weights, senders, receivers = edges(conv)

    def run(feats, vectors):
        vectors = vectors.clone().requires_grad_(True)
        out = apply(conv, feats, vectors, weights, senders, receivers)
        return out.detach(), torch.autograd.grad(out.square().sum(), vectors)[0]

    out, grad = run(feats, vectors)
    defect = 1e-12 if conv.tensor_product.exact else 0.2
    turn, _ = torch.linalg.qr(o3.rand_matrix().double())
    turn = turn * torch.det(turn)
    for rotation in (turn, -torch.eye(3, dtype=F64), -turn):
        to_in = matrix_ir_mul(conv.irreps_node, rotation)
        to_out = matrix_ir_mul(conv.irreps_out, rotation)
        rotated, rotated_grad = run(feats @ to_in.T, vectors @ rotation.T)
        assert (rotated - out @ to_out.T).abs().max() < defect * out.abs().max()
        if conv.tensor_product.exact:
            assert (rotated_grad - grad @ rotation.T).abs().max() < 2e-12 * grad.abs().max()


def matrix_ir_mul(irreps, rotation):
    index = mul_ir_index(irreps)
    inverse = torch.argsort(index)
    return d_matrix(irreps, rotation)[inverse][:, inverse]


def d_matrix(irreps, rotation):
    """D in float64 from harmonics alone: Y(R r) = D Y(r), solved over many directions."""
    blocks = []
    directions = torch.nn.functional.normalize(torch.randn(200, 3, dtype=F64), dim=1)
    for mul, ir in irreps:
        proper = rotation * torch.det(rotation)
        y = o3.spherical_harmonics(ir.l, directions, True, "component")
        rotated = o3.spherical_harmonics(ir.l, directions @ proper.T, True, "component")
        d = torch.linalg.lstsq(y, rotated).solution.T
        d = d * (ir.p if torch.det(rotation) < 0 else 1)
        blocks += [d] * mul
    return torch.block_diag(*blocks)


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradients_to_second_order(variant):
    irreps = ("2x0e+2x1o", "0e+1o")
    conv = convolution(variant, *irreps)
    feats, vectors, weights, senders, receivers = edges(conv, 3, 4)
    inputs = tuple(t.requires_grad_(True) for t in (feats, vectors, weights))

    def run(feats, vectors, weights):
        return apply(conv, feats, vectors, weights, senders, receivers)

    assert torch.autograd.gradcheck(run, inputs)
    assert torch.autograd.gradgradcheck(run, inputs, atol=1e-4)


@pytest.mark.parametrize("variant", VARIANTS)
def test_scripts_to_the_same_numbers(variant):
    conv = convolution(variant, *UNIFORM)
    scripted = torch.jit.script(conv)
    feats, vectors, weights, senders, receivers = edges(conv)
    basis = conv.edge_basis(vectors)
    expected = conv(feats, basis, weights, senders, receivers)
    for _ in range(3):  # the profiling executor optimises from the second call on
        out = scripted(feats, basis, weights, senders, receivers)
        torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("variant", VARIANTS)
def test_compiles_to_the_same_numbers(variant):
    """torch.compile's tracing and its derivatives; no code is generated, which takes a minute."""
    conv = convolution(variant, "2x0e+2x1o", "0e+1o")
    compiled = torch.compile(conv, backend="aot_eager")
    feats, vectors, weights, senders, receivers = edges(conv)
    feats.requires_grad_(True)
    basis = conv.edge_basis(vectors)
    results = []
    for made in (compiled, conv):
        out = made(feats, basis, weights, senders, receivers)
        results.append((out, *torch.autograd.grad(out.square().sum(), feats)))
    torch.testing.assert_close(*results, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("variant", VARIANTS)
def test_empty_inputs_and_ghosts(variant, dtype):
    conv = convolution(variant, *UNIFORM).to(dtype)
    feats, vectors, weights, senders, receivers = edges(conv, dtype=dtype)
    none = torch.zeros(0, dtype=torch.long)
    out = apply(conv, feats, vectors[:0], weights[:0], none, none)
    assert out.shape == (6, conv.irreps_out.dim)
    assert out.dtype == dtype
    assert not out.any()
    out = apply(conv, feats[:0], vectors[:0], weights[:0], none, none)
    assert out.shape == (0, conv.irreps_out.dim)
    receivers = (receivers % 3).sort().values  # senders beyond the receivers: LAMMPS' ghosts
    basis = conv.edge_basis(vectors)
    full = conv(feats, basis, weights, senders, receivers)
    short = conv(feats, basis, weights, senders, receivers, 3)
    torch.testing.assert_close(short, full[:3])
    assert not full[3:].any()


@pytest.mark.parametrize("variant", VARIANTS)
def test_order_of_edges_does_not_matter(variant):
    conv = convolution(variant, *UNIFORM)
    feats, vectors, weights, senders, receivers = edges(conv)
    out = apply(conv, feats, vectors, weights, senders, receivers)
    shuffled = torch.randperm(len(senders))
    parts = (vectors[shuffled], weights[shuffled], senders[shuffled], receivers[shuffled])
    torch.testing.assert_close(apply(conv, feats, *parts), out, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("variant", VARIANTS)
def test_edges_along_the_poles(variant):
    conv = convolution(variant, *UNIFORM)
    reference = convolution(f"{variant.split('/')[0]}/reference", *UNIFORM)
    feats, vectors, weights, senders, receivers = edges(conv)
    vectors[:6] = torch.tensor(
        [[0, 1, 0], [0, -1, 0], [1, 0, 0], [0, 0, 1], [0, 0, -1], [-1, 0, 0]]
    )
    vectors[6] = torch.tensor([1e-9, 1, 0])
    vectors.requires_grad_(True)
    out = apply(conv, feats, vectors, weights, senders, receivers)
    (grad,) = torch.autograd.grad(out.sum(), vectors)
    assert torch.isfinite(grad).all()
    if conv.tensor_product.exact:
        want = apply(reference, feats, vectors, weights, senders, receivers)
        torch.testing.assert_close(out, want, rtol=1e-11, atol=1e-11)
        (wanted,) = torch.autograd.grad(want.sum(), vectors)
        torch.testing.assert_close(grad, wanted, rtol=1e-9, atol=1e-9)
