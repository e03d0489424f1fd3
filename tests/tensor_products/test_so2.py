"""The edge frame: rotations, Wigner matrices, and what m truncation leaves."""

import pytest
import torch
from e3nn import o3
from tpcalc.errors import InputError
from tpcalc.o3.rotations import WignerMatrices, edge_rotations
from tpcalc.tensor_products import convolution, tensor_product

F64 = torch.float64
SPECIAL = torch.tensor(
    [[0, 1, 0], [0, -1, 0], [1, 0, 0], [0, 0, -2], [1e-12, -1, 0], [3, 1e-14, 1], [0, 0, 0]],
    dtype=F64,
)


def test_rotation_carries_the_pole_onto_the_edge():
    vectors = torch.cat([torch.randn(40, 3, dtype=F64), SPECIAL])
    rotation = edge_rotations(vectors)
    pole = torch.tensor([0.0, 1.0, 0.0], dtype=F64)
    direction = torch.nn.functional.normalize(vectors, dim=1)
    torch.testing.assert_close((rotation @ pole)[:-1], direction[:-1], atol=1e-14, rtol=0)
    eye = torch.eye(3, dtype=F64).expand(len(vectors), 3, 3)
    torch.testing.assert_close(rotation @ rotation.mT, eye, atol=1e-14, rtol=0)
    torch.testing.assert_close(torch.det(rotation), torch.ones(len(vectors), dtype=F64))


def test_wigner_matrices_rotate_e3nns_harmonics():
    rotation = edge_rotations(torch.randn(5, 3, dtype=F64))
    flat = WignerMatrices(5)(rotation)
    points = torch.randn(9, 3, dtype=F64)
    start = 0
    for l in range(1, 6):
        d = flat[:, start : start + (2 * l + 1) ** 2].view(5, 2 * l + 1, 2 * l + 1)
        start += (2 * l + 1) ** 2
        for n in range(5):
            y = o3.spherical_harmonics(l, points, True)
            turned = o3.spherical_harmonics(l, points @ rotation[n].T, True)
            torch.testing.assert_close(y @ d[n].T, turned, atol=1e-12, rtol=0)
    assert start == flat.shape[1]


@pytest.mark.parametrize("lmax", [1, 2, 3, 4])
def test_equals_reference_with_filters_up_to_twice_the_degree(lmax):
    """All paths of both parities; their number is the sum of 2 min(l1, l3) + 1."""
    irreps = "+".join(f"2x{l}{'eo'[l % 2]}" for l in range(lmax + 1))
    edge = "+".join(f"{l}{'eo'[l % 2]}" for l in range(2 * lmax + 1))
    conv = convolution("cg/so2", irreps, edge)
    exact = convolution("cg/reference", irreps, edge)
    count = sum(2 * min(a, b) + 1 for a in range(lmax + 1) for b in range(lmax + 1))
    assert len(conv.tensor_product.paths) == count
    vectors = torch.cat([torch.randn(6, 3, dtype=F64), SPECIAL[:-1]])
    feats = torch.randn(4, conv.irreps_node.dim, dtype=F64)
    w = torch.randn(12, conv.weight_numel, dtype=F64)
    senders, receivers = torch.randint(0, 4, (2, 12))
    out = conv(feats, conv.edge_basis(vectors), w, senders, receivers)
    want = exact(feats, exact.edge_basis(vectors), w, senders, receivers)
    torch.testing.assert_close(out, want, atol=1e-11, rtol=1e-11)


def test_gradient_across_the_equator_and_the_poles():
    """Where the gauge jumps, the result and its gradient do not."""
    conv = convolution("cg/so2", "1x0e+1x1o+1x2e", "0e+1o+2e")
    feats = torch.randn(1, conv.irreps_node.dim, dtype=F64)
    w = torch.randn(1, conv.weight_numel, dtype=F64)
    zero = torch.zeros(1, dtype=torch.long)

    def value(vector):
        return conv(feats, conv.edge_basis(vector), w, zero, zero)

    for point in ([0.6, 0.0, 0.8], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, -1.0, 0.0]):
        vector = torch.tensor([point], dtype=F64, requires_grad=True)
        assert torch.autograd.gradcheck(value, (vector,))  # finite differences straddle y = 0
        below, above = (value(torch.tensor([[point[0], point[1] + s, point[2]]], dtype=F64))
                        for s in (-1e-13, 1e-13))  # fmt: skip
        assert (below - above).abs().max() < 1e-11


def test_truncation_is_an_equivariant_smooth_approximation():
    irreps = ("2x0e+2x1o+2x2e", "0e+1o+2e")
    exact = convolution("cg/so2", *irreps)
    feats = torch.randn(3, exact.irreps_node.dim, dtype=F64)
    vectors = torch.randn(8, 3, dtype=F64)
    w = torch.randn(8, exact.weight_numel, dtype=F64)
    edges = (w, *torch.randint(0, 3, (2, 8)))
    want = exact(feats, exact.edge_basis(vectors), *edges)
    errors = []
    for m_max in (0, 1, 2):
        conv = convolution("cg/so2_truncated", *irreps, m_max=m_max)
        assert conv.tensor_product.exact == (m_max == 2)
        out = conv(feats, conv.edge_basis(vectors), *edges)
        errors.append(float((out - want).norm() / want.norm()))
    assert errors[0] > errors[1] > 1e-3
    assert errors[2] < 1e-14
    scripted = torch.jit.script(conv)
    torch.testing.assert_close(scripted(feats, conv.edge_basis(vectors), *edges), out)


def test_what_it_refuses():
    with pytest.raises(InputError, match="one-channel harmonics of an edge, not 2x0e"):
        tensor_product("cg/so2", "2x0e+2x1o", "2x0e+2x1o")
    with pytest.raises(InputError, match="m_max=-1"):
        tensor_product("cg/so2_truncated", "2x0e+2x1o", "0e+1o", m_max=-1)
    with pytest.raises(InputError, match="convolution only"):
        tensor_product("cg/so2_truncated", "2x0e+2x1o", "0e+1o")(None, None, None)
