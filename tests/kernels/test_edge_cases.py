"""`conv_radial`, `radial_table`, `poly` at the edges of their domain (`conv`: test_conv_op.py)."""

import pytest
import torch
from tpcalc.kernels.ops import load_ops
from tpcalc.tensor_products import convolution
from tpcalc.tensor_products.symmetric.cg import CgSymmetric
from tpcalc.tensor_products.symmetric.fused import CgPolynomialFused

F64 = torch.float64
NO_KIND = torch.zeros(0, dtype=torch.long)


@pytest.fixture(scope="module", autouse=True)
def _ops():
    load_ops()


class Splined:
    """`conv_radial`, and `conv` with the weights of `radial_table`."""

    def __init__(self, nodes, edges, dtype=F64, irreps="5x0e+5x1o"):
        conv = convolution("cg/fused", irreps, "0e+1o").to(dtype)
        product = conv.tensor_product
        self.columns, self.out_dim = conv.weight_numel, conv.out_dim
        self.tables = (product.op_paths, product.op_couplings, product.op_coef)
        self.splines = torch.randn(1, 23, self.columns, dtype=dtype)
        self.h = torch.randn(nodes, conv.irreps_node.dim, dtype=dtype)
        self.y, self.r = torch.randn(edges, 4, dtype=dtype), torch.rand(edges, dtype=dtype) * 5.5

    def op(self, h, y, r, senders, receivers, n):
        return torch.ops.tpcalc.conv_radial(
            h, y, r, NO_KIND, self.splines, 0.25, senders, receivers, *self.tables, n, self.out_dim
        )

    def plain(self, h, y, r, senders, receivers, n):
        w = torch.ops.tpcalc.radial_table(r, NO_KIND, self.splines, 0.25, 0)
        return torch.ops.tpcalc.conv(h, y, w, senders, receivers, *self.tables, n, self.out_dim)


@pytest.mark.parametrize(
    ("nodes", "senders", "receivers"),
    [(5, [], []), (0, [], []), (1, [], []), (1, [0], [0]), (5, [0, 0, 4], [3, 3, 3]),
     (5, [4, 3, 2], [2, 1, 0])],
)  # fmt: skip
def test_conv_radial_on_sparse_graphs(nodes, senders, receivers):
    """No edge, no node, one node, nodes without neighbours, falling order: values and gradients."""
    case = Splined(nodes, len(senders))
    leaves = [x.requires_grad_(True) for x in (case.h, case.y, case.r)]
    index = [torch.tensor(i, dtype=torch.long) for i in (senders, receivers)]
    out, want = (f(*leaves, *index, nodes) for f in (case.op, case.plain))
    torch.testing.assert_close(out, want, rtol=1e-12, atol=1e-12)
    for a, b in zip(*(torch.autograd.grad(o.sum(), leaves) for o in (out, want))):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_conv_radial_takes_non_contiguous_inputs():
    case = Splined(6, 20)
    senders, receivers = torch.randint(6, (20,)), torch.randint(6, (20,))
    want = case.op(case.h, case.y, case.r, senders, receivers, 6)
    h, y = (x.t().contiguous().t() for x in (case.h, case.y))
    r, *index = (torch.stack([x, x], 1)[:, 0] for x in (case.r, senders, receivers))
    assert not r.is_contiguous()
    case.splines = case.splines.transpose(1, 2).contiguous().transpose(1, 2)
    assert torch.equal(case.op(h, y, r, *index, 6), want)


def test_conv_radial_on_a_million_edges():
    n, edges = 20_000, 1_000_000
    case = Splined(n, edges, torch.float32, "4x0e+4x1o")
    senders, receivers = torch.randint(n, (edges,)), torch.arange(edges) // 50
    out = case.op(case.h, case.y, case.r, senders, receivers, n)
    last = slice(edges - 500, edges)  # of the last ten nodes
    index = senders[last], receivers[last]
    want = case.plain(case.h, case.y[last], case.r[last], *index, n)
    torch.testing.assert_close(out[-10:], want[-10:], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda c: c.update(h=c["h"][:, :-1]), "node features have 19 columns"),
        (lambda c: c.update(h=c["h"][0]), "must be matrices"),
        (lambda c: c.update(y=c["y"][:, :-1]), "the edge basis has"),
        (lambda c: c.update(r=c["r"][:-1]), "2 rows of edge weights"),
        (lambda c: c.update(r=c["r"][:, None]), "lengths must be a vector"),
        (lambda c: c.update(r=c["r"].float()), "in the dtype of the lengths"),
        (lambda c: c.update(senders=c["senders"] + 5), "senders lie in"),
        (lambda c: c.update(receivers=c["receivers"] - 9), "receivers lie in"),
        (lambda c: c.update(kind=torch.ones(3, dtype=torch.long)), "kind 1 of edge 0"),
        (lambda c: c.update(kind=torch.zeros(2, dtype=torch.long)), "one entry an edge"),
        (lambda c: c.update(table=c["table"][..., :-1]), "edge weights have"),
        (lambda c: c.update(step=-1.0), "must be positive"),
    ],
)
def test_conv_radial_refuses_wrong_input(change, sentence):
    case = Splined(2, 3)
    args = dict(h=case.h, y=case.y, r=case.r, kind=NO_KIND, table=case.splines, step=0.25,
                senders=torch.tensor([0, 1, 0]), receivers=torch.tensor([0, 1, 1]),
                paths=case.tables[0], couplings=case.tables[1], coef=case.tables[2], n=2,
                out_dim=case.out_dim)  # fmt: skip
    torch.ops.tpcalc.conv_radial(*args.values())
    change(args)
    with pytest.raises((RuntimeError, IndexError), match=sentence):
        torch.ops.tpcalc.conv_radial(*args.values())


@pytest.mark.parametrize("order", [0, 1, 3])
def test_radial_table_of_no_lengths_and_of_strided_ones(order):
    table, r = torch.randn(1, 23, 5, dtype=F64), torch.rand(8, dtype=F64) * 6

    def run(r, table=table):
        return torch.ops.tpcalc.radial_table(r, NO_KIND, table, 0.25, order)

    assert run(r[:0]).shape == (0, 5)
    strided = table.transpose(1, 2).contiguous().transpose(1, 2)
    assert torch.equal(run(torch.stack([r, r], 1)[:, 0], strided), run(r))


def test_radial_table_of_a_million_lengths():
    table, r = torch.randn(1, 23, 2), torch.rand(1_000_000) * 6
    out = torch.ops.tpcalc.radial_table(r, NO_KIND, table, 0.25, 0)
    some = torch.ops.tpcalc.radial_table(r[-7:].double(), NO_KIND, table.double(), 0.25, 0)
    torch.testing.assert_close(out[-7:].double(), some, rtol=1e-4, atol=1e-4)
    assert not out[r > 5].any()


@pytest.mark.parametrize("nodes", [0, 1])
def test_poly_of_few_nodes_and_its_gradients(nodes):
    args = ("3x0e+3x1o", "0e+1o", 3, 2)
    fused, plain = CgPolynomialFused(*args), CgSymmetric(*args)
    plain.load_state_dict(fused.state_dict())
    x = torch.randn(nodes, 12, dtype=F64, requires_grad=True)
    species = torch.ones(nodes, dtype=torch.long)
    outs = [module(x, species) for module in (fused, plain)]
    torch.testing.assert_close(*outs, rtol=1e-12, atol=1e-12)
    (grad,) = torch.autograd.grad(outs[0].sum(), x)
    assert grad.shape == x.shape
    if nodes:  # without nodes the plain form leaves the graph
        torch.testing.assert_close(grad, torch.autograd.grad(outs[1].sum(), x)[0])


def test_poly_takes_non_contiguous_inputs():
    args = {
        "x": torch.randn(4, 3, 6), "coef": torch.randn(2, 2, 6),
        "species": torch.tensor([0, 1, 1, 0]),
        "monomials": torch.tensor([[-1, 0], [0, 1]], dtype=torch.int32),
        "terms": torch.tensor([[0, 1], [0, 1]], dtype=torch.int32),
    }  # fmt: skip
    want = torch.ops.tpcalc.poly(*args.values(), 2)
    apart = [torch.stack([a, a], -1)[..., 0] for a in args.values()]
    assert not any(a.is_contiguous() for a in apart)
    assert torch.equal(torch.ops.tpcalc.poly(*apart, 2), want)
