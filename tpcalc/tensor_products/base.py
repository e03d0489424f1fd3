"""The contracts: a bilinear map, a basis of the edges, and a convolution over neighbours."""

from __future__ import annotations

import torch
from e3nn.o3 import Irreps

from tpcalc.o3.harmonics import SphericalHarmonics
from tpcalc.o3.layout import to_mul_ir
from tpcalc.tensor_products.paths import as_irreps, channel_mode


class TensorProduct(torch.nn.Module):
    """Equivariant bilinear map; all features in ir_mul order.

    `forward(x[..., in1], y[..., in2], w[..., weight_numel]) -> [..., out]`; leading axes
    broadcast. Tables are float64 and follow the dtype of the input. Instances have
    `irreps_in1`, `irreps_in2`, `irreps_out`, `paths` (a list of `Path`) and `weight_numel`.
    """

    # read by tests, CLI and README; class-level type annotations would stop TorchScript
    function = ""
    exact = True  # equal to the function's reference to round-off
    parity = "O(3)"
    devices = ("cpu", "cuda")
    requires = None  # optional package: (name, pip line)
    options = ()  # names of further keyword arguments
    # "convolution": over edges, one-channel second operand; "interaction": channel by channel
    places = ("convolution", "interaction")

    def __init__(self, irreps_in1: str | Irreps, irreps_in2: str | Irreps):
        super().__init__()
        self.irreps_in1 = as_irreps(irreps_in1)
        self.irreps_in2 = as_irreps(irreps_in2)
        self.channel_mode = channel_mode(self.irreps_in1, self.irreps_in2)

    @classmethod
    def available(cls) -> bool:
        """Whether this algorithm can run on this machine; compiled ones override it."""
        return True

    @torch.jit.unused
    def convolution(self) -> Convolution:
        """This product over the neighbours of each node; fused algorithms return their own."""
        return Convolution(self)

    @torch.jit.unused
    def materialize(self, w: torch.Tensor) -> torch.Tensor:
        """The dense 3-tensor [in1, in2, out] for weights `w` [weight_numel].

        float64 for float64 weights; rows in e3nn's mul_ir order, so that two algorithms, or
        e3nn's own product, are compared by comparing two of these.
        """
        d1, d2 = self.irreps_in1.dim, self.irreps_in2.dim
        x = torch.eye(d1, dtype=w.dtype, device=w.device)[:, None].expand(d1, d2, d1)
        y = torch.eye(d2, dtype=w.dtype, device=w.device)[None].expand(d1, d2, d2)
        dense = self.forward(x, y, w.expand(d1, d2, -1))
        dense = to_mul_ir(dense, self.irreps_out)
        dense = to_mul_ir(dense.transpose(0, 2), self.irreps_in1)
        dense = to_mul_ir(dense.transpose(1, 2), self.irreps_in2)
        return dense.permute(1, 2, 0)


class HarmonicsBasis(torch.nn.Module):
    """Spherical harmonics of the edges, component normalisation: [E, 3] -> [E, irreps_edge.dim].

    The default basis: what most algorithms need and all layers of a network share.
    """

    def __init__(self, irreps_edge: str | Irreps):
        super().__init__()
        irreps = as_irreps(irreps_edge)
        self.spec = ("harmonics", str(irreps))
        self.harmonics = SphericalHarmonics(max(irreps.lmax, 0))
        columns = [torch.arange(ir.l**2, (ir.l + 1) ** 2) for mul, ir in irreps for _ in range(mul)]
        self.register_buffer("columns", torch.cat(columns), persistent=False)
        self.all_columns = torch.equal(self.columns, torch.arange((irreps.lmax + 1) ** 2))

    def forward(self, edge_vectors: torch.Tensor) -> torch.Tensor:
        harmonics = self.harmonics(edge_vectors)  # [E, (lmax+1)^2]
        if self.all_columns:
            return harmonics
        return harmonics.index_select(1, self.columns)


class Convolution(torch.nn.Module):
    """Gather the senders' features, multiply with the edge basis, sum at the receivers.

    `forward(node_feats[N, in], basis[E, *], edge_weights[E, weight_numel], senders[E],
    receivers[E], num_receivers=None) -> [num_receivers or N, out]`. This default evaluates a
    `TensorProduct` edge by edge; a fused algorithm overrides `forward`, an algorithm with a
    basis of its own sets `edge_basis`. Networks build one basis per distinct `edge_basis.spec`.
    """

    compiled = False  # whether networks run their other parts as compiled ops too

    def __init__(self, tensor_product: TensorProduct, edge_basis: torch.nn.Module | None = None):
        super().__init__()
        self.tensor_product = tensor_product
        self.irreps_node = tensor_product.irreps_in1
        self.irreps_edge = tensor_product.irreps_in2
        self.irreps_out = tensor_product.irreps_out
        self.out_dim: int = self.irreps_out.dim
        self.weight_numel = tensor_product.weight_numel
        own = type(self) is not Convolution
        self.algorithm_class: str = type(self if own else tensor_product).__name__  # what runs
        self.edge_basis = edge_basis or HarmonicsBasis(self.irreps_edge)

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
        x = node_feats.index_select(0, senders)  # [E, in]
        messages = self.tensor_product(x, edge_basis, edge_weights)  # [E, out]
        out = torch.zeros(n, self.out_dim, dtype=messages.dtype, device=messages.device)
        return out.index_add(0, receivers, messages)
