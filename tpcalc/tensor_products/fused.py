"""What the fused variants share: coupling tables, and the convolution by `tpcalc::conv`."""

from __future__ import annotations

from typing import NamedTuple

import torch
from e3nn.o3 import Irreps

from tpcalc.errors import InputError
from tpcalc.kernels.ops import load_cuda_ops, load_ops, ops_available
from tpcalc.tensor_products.base import Convolution, TensorProduct

EDGES_OF_BLOCK = 512  # a thread, whose weights are made together: in its cache


class Coupling(NamedTuple):
    """One row of the table: out[d3, mul] += w[mul] sum_ij c_ijk h[d1, mul] y_j.

    Offsets and strides count columns; `c` [d1, len(y_columns), d3] is float64.
    """

    c: torch.Tensor
    y_columns: list[int]
    mul: int
    h_offset: int
    h_stride: int
    w_offset: int
    out_offset: int
    out_stride: int


class BlockColumns(NamedTuple):
    """Where an irrep block [dim, mul] of a feature vector begins."""

    start: int
    mul: int


def block_columns(irreps: Irreps) -> list[BlockColumns]:
    """One entry an irrep, in the ir_mul order of features."""
    return [BlockColumns(s.start, mul) for s, (mul, _) in zip(irreps.slices(), irreps)]


def coupling_table(rows: list[Coupling]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """`paths` int32 [rows, 10], `couplings` int32 [n, 2], `coef` float64 [n] of `tpcalc::conv`.

    Only the non-zeros of `c` are kept. Rows are ordered by their input block, which then stays
    in the cache.
    """
    paths, entries, coefs = [], [], []
    for row in sorted(rows, key=lambda r: r.h_offset):
        d1, _, d3 = row.c.shape
        begin = len(entries)
        i, k, j = torch.nonzero(row.c.permute(0, 2, 1).abs() > 1e-12, as_tuple=True)
        columns = torch.tensor(row.y_columns)[j]
        entries += torch.stack([i * d3 + k, columns], 1).tolist()
        coefs += row.c[i, j, k].tolist()
        paths.append([d1, d3, row.mul, row.h_offset, row.h_stride, row.w_offset, row.out_offset,
                      row.out_stride, begin, len(entries)])  # fmt: skip
    return (
        torch.tensor(paths, dtype=torch.int32),
        torch.tensor(entries, dtype=torch.int32).reshape(-1, 2),
        torch.tensor(coefs, dtype=torch.float64),
    )


def add_table(
    module: torch.nn.Module, rows: list[Coupling], factors: torch.Tensor | None = None
) -> None:
    """Load the op and give `module` the buffers `op_paths`, `op_couplings`, `op_coef`,
    `op_factors`.

    `factors` int64 [terms, rows, 3], for rows of one multiplicity: which blocks of the weights'
    columns are multiplied, and summed over terms, to be the weights of a row.
    """
    load_ops()
    for name, table in zip(("paths", "couplings", "coef"), coupling_table(rows)):
        module.register_buffer(f"op_{name}", table, persistent=False)
    module.op_channels = rows[0].mul if rows else 0
    none = torch.zeros(0, 0, 3, dtype=torch.long)
    module.register_buffer("op_factors", none if factors is None else factors, persistent=False)


class TablesOnCpu(torch.nn.Module):
    """Its tables (`op_*`) stay on the CPU, where the ops read them; moving it loads CUDA's ops."""

    def _apply(self, fn, recurse: bool = True):
        super()._apply(fn, recurse)
        for name in [n for n in self._buffers if n.startswith("op_")]:
            table = self._buffers[name]
            if table.device.type == "cuda":
                load_cuda_ops()
            if table.device.type not in ("cpu", "meta"):
                self._buffers[name] = table.cpu()
        return self


def flatten_leading(
    x: torch.Tensor, y: torch.Tensor, w: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, list[int]]:
    """The operands as matrices over their common leading axes, and these axes."""
    lead = torch.broadcast_tensors(x[..., :1], y[..., :1], w[..., :1])[0]
    shape = list(lead.shape[:-1])
    x = x.expand(shape + [x.shape[-1]]).reshape(lead.numel(), x.shape[-1])
    y = y.expand(shape + [y.shape[-1]]).reshape(lead.numel(), y.shape[-1])
    w = w.expand(shape + [w.shape[-1]]).reshape(lead.numel(), w.shape[-1])
    return x, y, w, shape


def require_one_channel(tensor_product: TensorProduct, name: str, instead: str) -> None:
    """Raises:
    InputError: the second operand has channels, which M cannot be summed over.
    """
    if tensor_product.channel_mode != "uvu":
        irreps = tensor_product.irreps_in2
        raise InputError(
            f"{name} sums over a one-channel second operand; {irreps} has {irreps[0].mul} "
            f"channels: use {instead}"
        )


class FusedProduct(TablesOnCpu, TensorProduct):
    """Mixed in before a function's reference: its paths, computed by `tpcalc::conv`.

    The second operand has one channel (M is made from it, free of channels).
    """

    devices = ("cpu", "cuda")
    requires = ("g++", "apt-get install g++")
    places = ("convolution",)

    @classmethod
    def available(cls) -> bool:
        return ops_available()

    def op_weights(self, w: torch.Tensor) -> torch.Tensor:
        """The weights [E, weight_numel] as the rows of the table count them."""
        return w

    def convolve(
        self,
        node_feats: torch.Tensor,
        y: torch.Tensor,
        w: torch.Tensor,
        senders: torch.Tensor,
        receivers: torch.Tensor,
        n: int,
    ) -> torch.Tensor:
        """[N, in1], [E, in2], [E, weight_numel] -> [n, out]."""
        return torch.ops.tpcalc.conv(
            node_feats, y, self.op_weights(w), senders, receivers,
            self.op_paths, self.op_couplings, self.op_coef, n, self.out_dim,
        )  # fmt: skip

    def forward(self, x: torch.Tensor, y: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        x, y, w, shape = flatten_leading(x, y, w)
        each = torch.arange(x.shape[0], device=x.device)  # every pair is its own receiver
        return self.convolve(x, y, w, each, each, x.shape[0]).view(shape + [self.out_dim])

    @torch.jit.unused
    def convolution(self) -> Convolution:
        return FusedConvolution(self)


class FusedConvolution(Convolution):
    """Gather, product and sum in one C++ op: nothing of size edges x paths x channels is made.

    Edges may come in any order; sorted by receiver (as neighbour lists are) they save a sort.
    """

    compiled = True

    def __init__(self, tensor_product: TensorProduct):
        super().__init__(tensor_product)
        self.algorithm_class = type(tensor_product).__name__
        self.edges_of_block = EDGES_OF_BLOCK

    def forward(
        self,
        node_feats: torch.Tensor,
        edge_basis: torch.Tensor,
        edge_weights: torch.Tensor,
        senders: torch.Tensor,
        receivers: torch.Tensor,
        num_receivers: int | None = None,
    ) -> torch.Tensor:
        n = node_feats.shape[0] if num_receivers is None else num_receivers
        return self.tensor_product.convolve(
            node_feats, edge_basis, edge_weights, senders, receivers, n
        )

    def from_network(
        self,
        node_feats: torch.Tensor,
        edge_basis: torch.Tensor,
        edge_feats: torch.Tensor,
        envelope: torch.Tensor | None,
        layers: list[torch.Tensor],
        norm: float,
        senders: torch.Tensor,
        receivers: torch.Tensor,
        num_receivers: int,
    ) -> torch.Tensor:
        """`forward` with weights from a constant network of the edge features [E, *], made block
        by block of edges, again for the gradient: they take no memory. `layers`, `norm`,
        `envelope`: see `RadialMLP`."""
        product = self.tensor_product
        return torch.ops.tpcalc.conv_network(
            node_feats, edge_basis, edge_feats, envelope, layers, norm, product.op_factors,
            product.op_channels, senders, receivers, product.op_paths, product.op_couplings,
            product.op_coef, self.edges_of_block, num_receivers, self.out_dim,
        )  # fmt: skip

    @torch.jit.unused
    def splined(
        self, table: torch.Tensor, step: float, kind_of_pair: torch.Tensor | None = None
    ) -> SplinedConvolution:
        """The same convolution with weights read from splines of the edge length.

        `table` [intervals + 3, columns of op_weights], for lengths from 0 in steps of `step`; with
        `kind_of_pair` [pairs of species] it is [kinds, intervals + 3, columns].
        """
        return SplinedConvolution(self, table, step, kind_of_pair)


class SplinedConvolution(TablesOnCpu):
    """A fused convolution whose weights are splines of the length: they never reach memory.

    Called as a `Convolution`, with lengths [E, 1] in the place of the weights, or [E, 2] with the
    pair of species, where tables differ by it. Derivatives are those of the spline; the table is
    constant.
    """

    def __init__(self, conv: FusedConvolution, table: torch.Tensor, step: float,
                 kind_of_pair: torch.Tensor | None = None):  # fmt: skip
        super().__init__()
        product = conv.tensor_product
        self.irreps_node, self.irreps_edge = conv.irreps_node, conv.irreps_edge
        self.irreps_out, self.out_dim = conv.irreps_out, conv.out_dim
        self.algorithm_class: str = conv.algorithm_class + " with radial splines"
        self.edge_basis = conv.edge_basis
        self.step = float(step)
        table = table.unsqueeze(0) if kind_of_pair is None else table
        self.register_buffer("table", table.contiguous(), persistent=False)
        # empty: there is one table
        kinds = torch.zeros(0, dtype=torch.long) if len(table) == 1 else kind_of_pair
        self.register_buffer("kind_of_pair", kinds, persistent=False)
        for name in ("op_paths", "op_couplings", "op_coef"):
            self.register_buffer(name, getattr(product, name), persistent=False)

    def forward(
        self,
        node_feats: torch.Tensor,
        edge_basis: torch.Tensor,
        edge_lengths: torch.Tensor,
        senders: torch.Tensor,
        receivers: torch.Tensor,
        num_receivers: int | None = None,
    ) -> torch.Tensor:
        n = node_feats.shape[0] if num_receivers is None else num_receivers
        kinds = self.kind_of_pair
        if kinds.numel() > 0:
            kinds = kinds.index_select(0, edge_lengths[:, 1].long())
        return torch.ops.tpcalc.conv_radial(
            node_feats, edge_basis, edge_lengths[:, 0], kinds,
            self.table.to(node_feats.dtype), self.step, senders, receivers,
            self.op_paths, self.op_couplings, self.op_coef, n, self.out_dim,
        )  # fmt: skip
