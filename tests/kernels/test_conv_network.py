"""`tpcalc::conv_network`: against the network and `tpcalc::conv`, through two derivatives."""

import copy

import pytest
import torch
from tests.small import agree_to_second_order, random_potential
from tpcalc.export import scripted
from tpcalc.kernels.ops import load_ops
from tpcalc.nn.radial import RadialMLP
from tpcalc.potential import energy_and_edge_gradient
from tpcalc.tensor_products import convolution

F64 = torch.float64


@pytest.fixture(scope="module", autouse=True)
def _ops():
    load_ops()


def case(variant="cg/fused", hidden=(7, 6), nodes=6, edges=40, dtype=F64):
    """Convolution, its constant network, (features, basis, edge features, envelope), edges."""
    conv = convolution(variant, "5x0e+5x1o+5x2e", "0e+1o+2e").to(dtype)
    radial = RadialMLP(4, list(hidden), conv.weight_numel).to(dtype).requires_grad_(False)
    shapes = ((nodes, 45), (edges, 9), (edges, 4), (edges, 1))
    leaves = [0.3 * torch.randn(*s, dtype=dtype) for s in shapes]
    receivers = torch.randint(max(nodes - 1, 1), (edges,)).sort().values  # the last has none
    return conv, radial, leaves, torch.randint(max(nodes, 1), (edges,)), receivers


def blocked(conv, radial, leaves, senders, receivers, block, n=6):
    conv = copy.copy(conv)
    conv.edges_of_block = block
    network = (radial.weights(), radial.silu_norm)
    return conv.from_network(*leaves, *network, senders, receivers, n)


def plain(conv, radial, leaves, senders, receivers, n=6):
    """The same by the network and the convolution."""
    h, basis, feats, envelope = leaves
    return conv(h, basis, radial(feats, envelope), senders, receivers, n)


@pytest.mark.parametrize("variant", ["cg/fused", "shared/fused", "gaunt/fused", "gaunt:3/fused"])
@pytest.mark.parametrize("block", [1, 7, 1000])
@pytest.mark.parametrize("hidden", [(), (7,), (7, 6)])
@pytest.mark.parametrize("envelope", [True, False])
def test_equals_network_and_convolution_with_derivatives(variant, block, hidden, envelope):
    conv, radial, leaves, *edges = case(variant, hidden)
    wanted = [x.requires_grad_(True) for x in leaves[: 4 if envelope else 3]]
    leaves = wanted if envelope else [*wanted, None]
    out = blocked(conv, radial, leaves, *edges, block)
    agree_to_second_order(out, plain(conv, radial, leaves, *edges), wanted)


@pytest.mark.parametrize("envelope", [True, False])
def test_inputs_made_from_one_another(envelope):
    """As in a second layer: node features, basis and cutoff depend on the edge features."""
    conv, radial, (h, basis, feats, cutoff), *edges = case()
    feats.requires_grad_(True)

    def leaves():  # each with a graph of its own
        factor = cutoff * feats[:, 1:2] if envelope else None
        return [h * feats.sum().sin(), basis * feats[:, :1], feats, factor]

    out = blocked(conv, radial, leaves(), *edges, 7)
    agree_to_second_order(out, plain(conv, radial, leaves(), *edges), [feats])


@pytest.mark.parametrize("order", ["shuffled", "falling"])
def test_edges_in_any_order(order):
    conv, radial, leaves, senders, receivers = case()
    new = torch.randperm(40) if order == "shuffled" else torch.arange(39, -1, -1)
    leaves = [leaves[0], *(x[new] for x in leaves[1:])]
    out = blocked(conv, radial, leaves, senders[new], receivers[new], 7)
    want = plain(conv, radial, leaves, senders[new], receivers[new])
    torch.testing.assert_close(out, want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("nodes", "edges"), [(6, 0), (1, 5), (1, 0), (0, 0)])
def test_no_edges_and_one_node(nodes, edges):
    conv, radial, leaves, senders, receivers = case(nodes=nodes, edges=edges)
    leaves = [x.requires_grad_(True) for x in leaves]
    out = blocked(conv, radial, leaves, senders, receivers, 3, nodes)
    want = plain(conv, radial, leaves, senders, receivers, nodes)
    torch.testing.assert_close(out, want, rtol=1e-12, atol=1e-12)
    for a, b in zip(*(torch.autograd.grad(o.sum(), leaves) for o in (out, want))):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_non_contiguous_inputs():
    conv, radial, leaves, senders, receivers = case()
    apart = [x.t().contiguous().t() for x in leaves]
    indices = [torch.stack([i, i], 1)[:, 0] for i in (senders, receivers)]
    want = blocked(conv, radial, leaves, senders, receivers, 7)
    assert torch.equal(blocked(conv, radial, apart, *indices, 7), want)


def test_two_threads_give_the_same_numbers():
    conv, radial, leaves, senders, receivers = case(nodes=50, edges=2000)
    leaves = [x.requires_grad_(True) for x in leaves]

    def all_orders():
        out = blocked(conv, radial, leaves, senders, receivers, 500, 50)
        return [out, *torch.autograd.grad(out.sin().sum(), leaves)]

    one = all_orders()
    torch.set_num_threads(2)
    try:
        two = all_orders()
    finally:
        torch.set_num_threads(1)
    for a, b in zip(one, two):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("mode", ["eager", "torchscript"])
def test_potential_takes_it_for_many_edges(mode):
    """The same energies and forces; the op is what ran."""
    potential = random_potential("cg").swap("cg/fused")
    n, edges = 9, 60
    species = torch.randint(3, (n,))
    index = torch.stack([torch.randint(n, (edges,)).sort().values, torch.randint(n, (edges,))])
    vectors = torch.nn.functional.normalize(torch.randn(edges, 3, dtype=F64), dim=1)
    vectors = vectors * (0.8 + 3 * torch.rand(edges, 1, dtype=F64))
    want = energy_and_edge_gradient(potential, species, index, vectors, n)
    for layer in potential.model.layers:
        layer.most_weights = 0
    run = scripted(potential) if mode == "torchscript" else potential
    for _ in range(3):  # TorchScript's executor
        with torch.profiler.profile() as profile:
            got = energy_and_edge_gradient(run, species, index, vectors, n)
        counts = {e.key: e.count for e in profile.key_averages()}
        assert counts["tpcalc::conv_network"] == 2 * counts["tpcalc::conv_network_bwd"] / 2 > 1
        assert "tpcalc::conv" not in counts
        for a, b in zip(got, want):
            torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)


def test_training_keeps_the_weights():
    """Weights that learn need their gradients: the plain way, whatever the number of edges."""
    potential = random_potential("cg").swap("cg/fused").requires_grad_(True)
    potential.model.layers[1].most_weights = 0
    index = torch.tensor([[0, 1], [1, 0]])
    vectors = torch.tensor([[1.0, 0, 0], [-1, 0, 0]], dtype=F64)
    potential(torch.tensor([0, 1]), index, vectors, 2).sum().backward()
    assert potential.model.layers[1].radial.layers[0].weight.grad.abs().max() > 0


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"feats": torch.randn(3, 5)}, "matrix of 4 columns"),
        ({"feats": torch.randn(2, 4)}, "3 senders, 3 receivers, 3 rows of edge basis, 2 rows"),
        ({"layers": []}, "no matrices"),
        ({"layers": [torch.randn(4, 3), torch.randn(2, 2)]}, "a matrix of 3 rows"),
        ({"layers": [torch.randn(4, 2, dtype=F64)]}, "in the dtype of x"),
        ({"layers": [torch.randn(4, 2, requires_grad=True)]}, "the network is constant"),
        ({"envelope": torch.ones(2, 1)}, r"factors \[2, 1\]"),
        ({"envelope": torch.ones(3)}, "matrix of 1 columns"),
        ({"factors": torch.zeros(1, 1, 2, dtype=torch.long)}, "blocks of at least one channel"),
        ({"factors": torch.full((1, 1, 3), 1)}, "factor 1; the network has 1 blocks of 2 channels"),
        ({"block": 0}, "blocks of 0 edges"),
        ({"senders": torch.tensor([0, 1, 2])}, "senders lie in"),
        ({"receivers": torch.tensor([0.0, 1, 1])}, "must be int64"),
        ({"h": torch.randn(2, 1)}, "node features have 1 columns"),
        ({"h": torch.randn(2)}, "must be matrices"),
    ],
)
def test_wrong_input_is_refused(change, sentence):
    product = convolution("cg/fused", "2x0e", "0e", "2x0e").tensor_product
    args = {
        "h": torch.randn(2, 2), "y": torch.randn(3, 1), "feats": torch.randn(3, 4),
        "envelope": None, "layers": [torch.randn(4, 2)], "norm": 1.0,
        "factors": product.op_factors, "channels": 2, "senders": torch.tensor([0, 1, 0]),
        "receivers": torch.tensor([0, 1, 1]), "paths": product.op_paths,
        "couplings": product.op_couplings, "coef": product.op_coef, "block": 2,
        "num_receivers": 2, "out_dim": 2,
    }  # fmt: skip
    torch.ops.tpcalc.conv_network(*args.values())
    args.update(change)
    with pytest.raises((RuntimeError, IndexError), match=sentence):
        torch.ops.tpcalc.conv_network(*args.values())
