"""Cut tensors into parts and join them, cheaply through two derivatives.

torch differentiates a slice, and the derivative of a concatenation, by filling a whole tensor
with zeros for each part; in training (forces: second derivatives) that costs more than the
products themselves. Here the derivative of cutting is joining, and the other way round.
"""

from __future__ import annotations

import torch


def split_columns(x: torch.Tensor, widths: list[int], dim: int = -1) -> list[torch.Tensor]:
    """Parts of `x` along `dim`, as `torch.split(x, widths, dim)`."""
    if torch.jit.is_scripting() or not torch.is_grad_enabled():
        return list(torch.split(x, widths, dim))
    return _split_differentiably(x, widths, dim)


def join_columns(parts: list[torch.Tensor], dim: int = -1) -> torch.Tensor:
    """`torch.cat(parts, dim)`."""
    if torch.jit.is_scripting() or not torch.is_grad_enabled():
        return torch.cat(parts, dim)
    return _join_differentiably(parts, dim)


@torch.jit.unused
def _split_differentiably(x: torch.Tensor, widths: list[int], dim: int) -> list[torch.Tensor]:
    return list(_Split.apply(x, widths, dim))


@torch.jit.unused
def _join_differentiably(parts: list[torch.Tensor], dim: int) -> torch.Tensor:
    return _Join.apply(dim, *parts)


class _Split(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, widths, dim):
        ctx.dim = dim
        return tuple(part.contiguous() for part in torch.split(x, widths, dim))

    @staticmethod
    def backward(ctx, *grads):
        return join_columns(list(grads), ctx.dim), None, None


class _Join(torch.autograd.Function):
    @staticmethod
    def forward(ctx, dim, *parts):
        ctx.dim, ctx.widths = dim, [part.shape[dim] for part in parts]
        return torch.cat(parts, dim)

    @staticmethod
    def backward(ctx, grad):
        return None, *split_columns(grad, ctx.widths, ctx.dim)
