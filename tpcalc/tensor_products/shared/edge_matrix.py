"""Path-weight sharing as one matrix per edge."""

from __future__ import annotations

import torch

from tpcalc.errors import InputError
from tpcalc.tensor_products.base import Convolution, HarmonicsBasis
from tpcalc.tensor_products.columns import split_columns
from tpcalc.tensor_products.shared.reference import SharedReference

CACHE_BYTES = 2**20  # gathered features of one portion of edges


class SharedEdgeMatrix(SharedReference):
    """A_ki = sum_j M_ijk y_j first, free of channels, then one product A (w x) for all channels.

    Exact: with one weight per channel the whole product folds into a d x d matrix, d^2
    multiplications a channel, against 2dR for a CP decomposition of rank R. The matrix depends
    on geometry alone, so layers with the same irreps share it. Needs a one-channel second
    operand.
    """

    places = ("convolution",)

    def __init__(self, irreps_in1, irreps_in2, irreps_out=None):
        super().__init__(irreps_in1, irreps_in2, irreps_out)
        if not self.uvu:
            raise InputError(
                f"shared/edge_matrix folds a one-channel second operand; {self.irreps_in2} has "
                f"{self.irreps_in2[0].mul} channels: use shared/reference"
            )

    def forward(self, x: torch.Tensor, y: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        matrix = torch.tensordot(y, self.coupling.to(x.dtype), dims=([y.dim() - 1], [1]))
        x = x.unflatten(-1, [self.d1, self.mul]) * w.unsqueeze(-2)  # [..., d1, mul]
        return matrix.transpose(-1, -2).matmul(x).flatten(-2)  # [..., d3, mul]

    def convolution(self) -> Convolution:
        return EdgeMatrixConvolution(self)


class EdgeMatrixBasis(torch.nn.Module):
    """The folded matrices A of the edges: [E, 3] -> [E, d3, d1]."""

    def __init__(self, tensor_product: SharedEdgeMatrix):
        super().__init__()
        one_channel = [(1, ir) for _, ir in tensor_product.irreps_in1]
        self.spec = ("edge_matrix", str(one_channel), str(tensor_product.irreps_in2),
                     str([ir for _, ir in tensor_product.irreps_out]))  # fmt: skip
        self.harmonics = HarmonicsBasis(tensor_product.irreps_in2)
        coupling = tensor_product.coupling.permute(1, 2, 0).contiguous()  # [d2, d3, d1]
        self.register_buffer("coupling", coupling, persistent=False)

    def forward(self, edge_vectors: torch.Tensor) -> torch.Tensor:
        coupling = self.coupling.to(edge_vectors.dtype)
        flat = self.harmonics(edge_vectors).matmul(coupling.flatten(1))
        return flat.view(-1, coupling.shape[1], coupling.shape[2])


class EdgeMatrixConvolution(Convolution):
    """Gather, weigh, one batched matrix product, sum; on a CPU by as many edges at a time as
    the second-level cache holds, which halves the time of a large graph.
    """

    def __init__(self, tensor_product: SharedReference, edge_basis: torch.nn.Module | None = None):
        super().__init__(tensor_product, edge_basis or EdgeMatrixBasis(tensor_product))
        self.d1, self.mul = tensor_product.d1, tensor_product.mul
        self.cache_bytes = CACHE_BYTES

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
        x = node_feats.view(-1, self.d1, self.mul)
        out = torch.zeros(n, self.out_dim, dtype=x.dtype, device=x.device)
        sizes = self.portions(senders.shape[0], x)
        bases = split_columns(edge_basis, sizes, 0)
        weights = split_columns(edge_weights, sizes, 0)
        targets = torch.split(receivers, sizes)
        for k, sources in enumerate(torch.split(senders, sizes)):
            gathered = x.index_select(0, sources)  # [e, d1, mul]
            messages = self.product(bases[k], gathered.mul_(weights[k].unsqueeze(1)))
            out = out.index_add_(0, targets[k], messages.flatten(1))
        return out

    def product(self, matrices: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """[e, d3, d1], weighted features [e, d1, mul] -> [e, d3, mul]."""
        return matrices.bmm(x)

    def portions(self, edges: int, x: torch.Tensor) -> list[int]:
        """How many edges are taken at a time: all on a GPU."""
        size = max(1, self.cache_bytes // (self.d1 * self.mul * x.element_size()))
        if x.is_cuda or edges <= size:
            return [edges]
        sizes = [size] * (edges // size)
        if edges % size > 0:
            sizes.append(edges % size)
        return sizes
