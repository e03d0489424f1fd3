"""The sum over neighbours of a layer, with path weights from its radial network."""

from __future__ import annotations

import torch

from tpcalc.nn.radial import RadialMLP
from tpcalc.tensor_products.base import Convolution

MOST_WEIGHTS = 2**23  # numbers; more path weights than that are made again for the gradient


class NeighborSum(torch.nn.Module):
    """Base of the layers: their convolution and radial network."""

    def __init__(self, conv: Convolution, radial: RadialMLP):
        super().__init__()
        self.conv = conv
        self.radial = radial
        self.most_weights = MOST_WEIGHTS

    def messages(self, up: torch.Tensor, basis: torch.Tensor, edge_feats: torch.Tensor,
                 envelope: torch.Tensor | None, senders: torch.Tensor, receivers: torch.Tensor,
                 n_local: int) -> torch.Tensor:  # fmt: skip
        """[n_local, out]; `envelope` [E, 1] multiplies the path weights. Weights of very many edges
        are not stored, where the convolution can and the network is constant."""
        if hasattr(self.conv, "from_network") and hasattr(self.radial, "weights"):
            numbers = edge_feats.shape[0] * self.conv.weight_numel
            if numbers > self.most_weights and not edge_feats.is_cuda:
                layers = self.radial.weights()
                if not any([w.requires_grad for w in layers]):  # noqa: C419, TorchScript
                    return self.conv.from_network(
                        up, basis, edge_feats, envelope, layers, self.radial.silu_norm, senders,
                        receivers, n_local,
                    )  # fmt: skip
        weights = self.radial(edge_feats, envelope)
        return self.conv(up, basis, weights, senders, receivers, n_local)
