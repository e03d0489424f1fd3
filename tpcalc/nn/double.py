"""Geometry is computed in float64 whatever the dtype of the model.

Sines of n pi r / rc and cutoffs lose digits in float32, and forces are their derivatives.
"""

from __future__ import annotations

import torch


class Double(torch.nn.Module):
    """Base of modules whose own parameters and buffers stay float64 in every dtype."""

    def _apply(self, fn, recurse=True):
        def keep(tensor: torch.Tensor) -> torch.Tensor:
            made = fn(tensor)
            return tensor.to(made.device) if made.dtype != tensor.dtype else made

        return super()._apply(keep, recurse)


class EdgeLengths(torch.nn.Module):
    """Edge vectors [E, 3] -> lengths [E] in float64. `as_op`: as one compiled op
    (`tpcalc.kernels.ops.use_ops`)."""

    __constants__ = ["as_op"]  # TorchScript drops branches not taken

    def __init__(self):
        super().__init__()
        self.as_op = False
        self.operands = [3.0, 0.0, 0.0]  # of the op `bessel`: the length is the feature

    def forward(self, edge_vectors: torch.Tensor) -> torch.Tensor:
        return self.of_edges(edge_vectors)[1]

    def of_edges(self, edge_vectors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The lengths twice: [E, 1] in the dtype of the vectors, [E] in float64."""
        if self.as_op:  # noqa: SIM102
            if not edge_vectors.is_cuda:
                none = torch.empty(0, dtype=torch.float64)
                return torch.ops.tpcalc.bessel(edge_vectors, none, 0.0, self.operands)
        lengths = edge_lengths(edge_vectors)
        return lengths.to(edge_vectors.dtype).unsqueeze(1), lengths


def edge_lengths(edge_vectors: torch.Tensor) -> torch.Tensor:
    """[E, 3] in any dtype -> [E], float64."""
    vectors = edge_vectors.double()
    return (vectors * vectors).sum(1).sqrt()
