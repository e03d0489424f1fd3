"""`tpcalc::conv`: against dense sums, through two derivatives, at the edges of its domain."""

import pytest
import torch
from torch.autograd import forward_ad
from tpcalc.kernels.ops import load_ops
from tpcalc.tensor_products import convolution
from tpcalc.tensor_products.fused import Coupling, coupling_table

F64 = torch.float64


@pytest.fixture(scope="module", autouse=True)
def _ops():
    load_ops()


class Dense:
    """A random table of couplings and the same sum by einsum."""

    def __init__(self, sizes, merged=False, overlap=0, empty=0):
        generator = torch.Generator().manual_seed(1)
        self.rows, h, w, out = [], 0, 0, 0
        for d1, d2, d3, mul in sizes:
            c = torch.randn(d1, d2, d3, generator=generator, dtype=F64)
            c[torch.rand(c.shape, generator=generator) < 0.3] = 0
            c[:, :, :empty] = 0
            self.rows.append(Coupling(c, list(range(d2)), mul, h, mul, w, out, mul))
            h, w = h + d1 * mul, w + mul
            out += 0 if merged else d3 * mul - overlap
        self.h_dim, self.w_dim = h, w
        self.y_dim = max(d2 for _, d2, _, _ in sizes)
        self.out_dim = max(r.out_offset + r.c.shape[2] * r.mul for r in self.rows)
        self.tables = coupling_table(self.rows)

    def inputs(self, nodes=5, edges=13, dtype=F64):
        return (
            torch.randn(nodes, self.h_dim, dtype=dtype),
            torch.randn(edges, self.y_dim, dtype=dtype),
            torch.randn(edges, self.w_dim, dtype=dtype),
            torch.randint(nodes, (edges,)),
            torch.randint(nodes, (edges,)),
        )

    def op(self, h, y, w, senders, receivers, n=5):
        return torch.ops.tpcalc.conv(h, y, w, senders, receivers, *self.tables, n, self.out_dim)

    def dense(self, h, y, w, senders, receivers, n=5):
        out = torch.zeros(n, self.out_dim, dtype=h.dtype)
        for r in self.rows:
            d1, d2, d3 = r.c.shape
            x = h[senders, r.h_offset : r.h_offset + d1 * r.mul].view(-1, d1, r.mul)
            weights = w[:, r.w_offset : r.w_offset + r.mul]
            z = torch.einsum("eiu,ej,ijk,eu->eku", x, y[:, :d2], r.c.to(h.dtype), weights)
            columns = torch.arange(r.out_offset, r.out_offset + d3 * r.mul)
            message = torch.zeros(len(senders), self.out_dim, dtype=h.dtype)
            message = message.index_add(1, columns, z.flatten(1))
            out = out.index_add(0, receivers, message)
        return out


TABLES = {
    "one vector": Dense([(3, 3, 3, 8), (3, 5, 1, 8)]),
    "two vectors": Dense([(3, 3, 5, 16), (1, 3, 3, 16)]),
    "tails": Dense([(3, 5, 3, 7), (5, 3, 5, 19), (1, 1, 1, 1)]),
    "cut to the shapes": Dense([(9, 5, 11, 4), (2, 3, 4, 9), (13, 3, 1, 8), (15, 2, 7, 16)]),
    "merged and cut": Dense([(9, 3, 9, 8), (3, 3, 9, 8), (9, 2, 9, 8)], merged=True),
    "cut, pieces empty": Dense([(9, 3, 9, 8), (3, 3, 9, 8), (5, 2, 3, 8)], empty=5),
    "merged": Dense([(3, 3, 3, 8), (5, 3, 3, 8), (1, 3, 3, 8)], merged=True),
    "overlapping in part": Dense([(3, 3, 3, 8), (3, 3, 3, 8)], overlap=5),
}


@pytest.mark.parametrize("name", TABLES)
def test_equals_dense_sum_and_its_derivatives(name):
    table = TABLES[name]
    h, y, w, senders, receivers = table.inputs()
    leaves = tuple(t.requires_grad_(True) for t in (h, y, w))
    out = table.op(*leaves, senders, receivers)
    want = table.dense(*leaves, senders, receivers)
    torch.testing.assert_close(out, want, rtol=1e-12, atol=1e-12)
    g = torch.randn_like(out).requires_grad_(True)
    firsts = [torch.autograd.grad(o, leaves, g, create_graph=True) for o in (out, want)]
    for a, b in zip(*firsts):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    tangents = [torch.randn_like(t) for t in leaves]
    for again in (False, True):  # the fused kernel, and the ops that can be derived further
        a, b = (
            torch.autograd.grad(f, (g, *leaves), tangents, retain_graph=True, create_graph=again)
            for f in firsts
        )
        for x, z in zip(a, b):
            torch.testing.assert_close(x, z, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("wanted", [(0,), (1,), (2,), (0, 2), (1, 2)])
def test_only_the_gradients_asked_for(wanted):
    table = TABLES["two vectors"]
    *tensors, senders, receivers = table.inputs()
    leaves = [tensors[n].requires_grad_(True) for n in wanted]
    g = torch.randn(5, table.out_dim, dtype=F64)
    grads = [
        torch.autograd.grad(f(*tensors, senders, receivers), leaves, g, create_graph=True)
        for f in (table.op, table.dense)
    ]
    if len(wanted) > 1:
        grads += [torch.autograd.grad(sum(x.sin().sum() for x in f), leaves) for f in grads[:2]]
    for a, b in zip(grads[0::2], grads[1::2]):
        for x, z in zip(a, b):
            torch.testing.assert_close(x, z, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("variant", ["cg", "gaunt", "shared"])
def test_degree_5(variant):
    """Rows cut to the compiled shapes, against e3nn and the other references."""
    irreps = "+".join(f"8x{n}{'eo'[n % 2]}" for n in range(6))
    reference = {"cg": "cg/e3nn", "gaunt": "gaunt/reference", "shared": "shared/reference"}
    edge = irreps.replace("8x", "")
    layers = [
        convolution(name, irreps, edge, irreps) for name in (f"{variant}/fused", reference[variant])
    ]
    x, w = torch.randn(3, 288, dtype=F64), torch.randn(7, layers[0].weight_numel, dtype=F64)
    ends = torch.randint(3, (7,)), torch.randint(3, (7,))
    leaves = (x.requires_grad_(True), torch.randn(7, 36, dtype=F64).requires_grad_(True),
              w.requires_grad_(True))  # fmt: skip
    outs = [layer(*leaves, *ends, 3) for layer in layers]
    torch.testing.assert_close(*outs, rtol=1e-12, atol=1e-12)
    probe = torch.randn_like(outs[0])
    for a, b in zip(*(torch.autograd.grad(out, leaves, probe) for out in outs)):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-11)


def test_gradcheck():
    table = Dense([(3, 3, 3, 3), (1, 3, 3, 3)])
    h, y, w, senders, receivers = table.inputs(3, 5)
    leaves = tuple(t.requires_grad_(True) for t in (h, y, w))

    def run(h, y, w):
        return table.op(h, y, w, senders % 3, receivers % 3, 3)

    assert torch.autograd.gradcheck(run, leaves)
    assert torch.autograd.gradgradcheck(run, leaves)


@pytest.mark.parametrize("isa", ["avx2", "baseline"])
def test_instruction_sets_agree(isa, tmp_path):
    """The set is chosen once a process, so another process runs the narrower one."""
    import os
    import subprocess
    import sys

    code = (
        "import torch; from tests.kernels.test_conv_op import TABLES, load_ops; load_ops()\n"
        "torch.manual_seed(0)\n"
        "for t in TABLES.values():\n"
        "    for d, tol in ((torch.float32, 1e-4), (torch.float64, 1e-11)):\n"
        "        x = [a.requires_grad_(a.is_floating_point()) for a in t.inputs(dtype=d)]\n"
        "        a, b = t.op(*x), t.dense(*x)\n"
        "        assert (a - b).abs().max() < tol\n"
        "        for p, q in zip(*(torch.autograd.grad(o.sin().sum(), x[:3]) for o in (a, b))):\n"
        "            assert (p - q).abs().max() < tol * 10\n"
    )
    root = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
    env = {**os.environ, "TPCALC_ISA": isa, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", code], env=env, check=True, cwd=root)


def test_threads_give_the_same_numbers():
    table = TABLES["two vectors"]
    h, y, w, senders, receivers = table.inputs(50, 1000)
    leaves = [t.requires_grad_(True) for t in (h, y, w)]

    def all_orders():
        out = table.op(*leaves, senders, receivers, 50)
        first = torch.autograd.grad(out.sin().sum(), leaves, create_graph=True)
        second = torch.autograd.grad(sum(t.cos().sum() for t in first), leaves)
        return [out, *first, *second]

    one = all_orders()
    torch.set_num_threads(2)
    try:
        two, again = all_orders(), all_orders()
    finally:
        torch.set_num_threads(1)
    for a, b, c in zip(one, two, again):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
        assert torch.equal(b, c)


def test_mutated_coefficient_is_caught():
    fused = convolution("cg/fused", "8x0e+8x1o+8x2e", "0e+1o+2e").tensor_product
    reference = convolution("cg/reference", "8x0e+8x1o+8x2e", "0e+1o+2e").tensor_product
    w = torch.ones(fused.weight_numel, dtype=F64)
    torch.testing.assert_close(fused.materialize(w), reference.materialize(w))
    fused.op_coef[7] *= 1.001
    difference = (fused.materialize(w) - reference.materialize(w)).abs().max()
    assert difference > 1e-4


def test_non_contiguous_inputs():
    table = TABLES["one vector"]
    h, y, w, senders, receivers = table.inputs()
    want = table.op(h, y, w, senders, receivers)
    apart = [t.t().contiguous().t() for t in (h, y, w)]
    indices = [torch.stack([i, i], 1)[:, 0] for i in (senders, receivers)]
    assert torch.equal(table.op(*apart, *indices), want)


@pytest.mark.parametrize(
    ("senders", "receivers", "edges"),
    [([], [], 0), ([0], [0], 1), ([0, 0, 4], [3, 3, 3], 3), ([4, 3, 2], [2, 1, 0], 3)],
)
def test_sparse_graphs(senders, receivers, edges):
    """No edge, one node, nodes without neighbours, receivers in falling order."""
    for table in TABLES.values():
        h, y, w, *_ = table.inputs(5, edges)
        index = [torch.tensor(i, dtype=torch.long) for i in (senders, receivers)]
        torch.testing.assert_close(table.op(h, y, w, *index), table.dense(h, y, w, *index))


def test_no_nodes():
    table = TABLES["tails"]
    none = torch.zeros(0, dtype=torch.long)
    h, y, w = (torch.zeros(0, n) for n in (table.h_dim, table.y_dim, table.w_dim))
    assert table.op(h, y, w, none, none, 0).shape == (0, table.out_dim)


def test_a_million_edges():
    conv = convolution("cg/fused", "4x0e+4x1o", "0e+1o").float()
    reference = convolution("cg/reference", "4x0e+4x1o", "0e+1o").float()
    n, edges = 20_000, 1_000_000
    feats, basis = torch.randn(n, 16), torch.randn(edges, 4)
    weights, senders = torch.randn(edges, conv.weight_numel), torch.randint(n, (edges,))
    receivers = torch.arange(edges) // 50
    out = conv(feats, basis, weights, senders, receivers)
    last = slice(edges - 500, edges)
    want = reference(feats, basis[last], weights[last], senders[last], receivers[last])
    torch.testing.assert_close(out[-10:], want[-10:], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda a: a.update(h=a["h"][:, :-1]), "node features have 47 columns"),
        (lambda a: a.update(w=a["w"][:, :-1]), "edge weights have 15 columns"),
        (lambda a: a.update(y=a["y"][:, :-1]), "the edge basis has"),
        (lambda a: a.update(y=a["y"][:-1]), "12 rows of edge basis"),
        (lambda a: a.update(senders=a["senders"] + 5), "senders lie in"),
        (lambda a: a.update(receivers=a["receivers"] - 9), "receivers lie in"),
        (lambda a: a.update(senders=a["senders"].int()), "must be int64"),
        (lambda a: a.update(w=a["w"].float()), "one dtype"),
        (lambda a: a.update(h=a["h"].half(), y=a["y"].half(), w=a["w"].half()), "float32 or"),
        (lambda a: a.update(h=a["h"][0]), "must be matrices"),
        (lambda a: a.update(paths=a["paths"][:, :-1]), "paths must be"),
        (lambda a: a.update(coef=a["coef"][:-1]), "couplings must be"),
        (lambda a: a.update(couplings=a["couplings"].flip(0)), "sorted by entry|coupling table"),
        (lambda a: a.update(out_dim=3), "output has 3 columns"),
    ],
)
def test_wrong_input_is_refused_in_a_sentence(change, sentence):
    table = TABLES["one vector"]
    h, y, w, senders, receivers = table.inputs()
    paths, couplings, coef = table.tables
    args = dict(h=h, y=y, w=w, senders=senders, receivers=receivers, paths=paths,
                couplings=couplings, coef=coef, num_receivers=5, out_dim=table.out_dim)  # fmt: skip
    torch.ops.tpcalc.conv(*args.values())
    change(args)
    with pytest.raises((RuntimeError, IndexError), match=sentence):
        torch.ops.tpcalc.conv(*args.values())


def test_shapes_without_memory():
    """The meta kernel: what torch.compile and export trace."""
    table = TABLES["one vector"]
    h, y, w, senders, receivers = (t.to("meta") for t in table.inputs())
    out = torch.ops.tpcalc.conv(h, y, w, senders, receivers, *table.tables, 5, table.out_dim)
    assert out.shape == (5, table.out_dim)


@pytest.mark.parametrize("column", range(10))
@pytest.mark.parametrize("value", [-1, 2**31 - 1])
def test_a_malformed_row_of_the_table_never_crashes(column, value):
    product = convolution("cg/fused", "4x0e+4x1o", "0e+1o").tensor_product
    paths = product.op_paths.clone()
    row = next(n for n, (d1, d3, *_) in enumerate(paths.tolist()) if d1 > 1 and d3 > 1)
    paths[row, column] = value
    ends = torch.zeros(5, dtype=torch.long), torch.zeros(5, dtype=torch.long)
    inputs = torch.ones(1, 16), torch.ones(5, 4), torch.ones(5, product.weight_numel)
    with pytest.raises(RuntimeError, match="tpcalc::conv"):
        torch.ops.tpcalc.conv(*inputs, *ends, paths, product.op_couplings, product.op_coef, 1,
                              product.out_dim)  # fmt: skip


def test_forward_mode_differentiation_is_refused():
    """Rather than tangents of zero, where no input requires a gradient."""
    conv = convolution("cg/fused", "4x0e+4x1o", "0e+1o")
    ends = torch.zeros(5, dtype=torch.long), torch.zeros(5, dtype=torch.long)
    basis, weights = torch.ones(5, 4), torch.ones(5, conv.weight_numel)
    feats = torch.ones(1, 16)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(feats, feats)
        with pytest.raises(RuntimeError, match="jvp is not implemented"):
            conv(dual, basis, weights, *ends)
