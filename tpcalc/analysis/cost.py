"""Floating-point operations and bytes of a tensor product, counted op by op."""

from __future__ import annotations

import math

import torch
from torch.utils._python_dispatch import TorchDispatchMode

_FREE = ("view", "expand", "slice", "select", "unsqueeze", "squeeze", "transpose", "permute", "t",
         "as_strided", "detach", "alias", "split", "split_with_sizes", "_unsafe_view", "unbind",
         "view_as_real", "real", "imag", "lift_fresh")  # fmt: skip
_COPY = ("clone", "copy_", "cat", "stack", "index_select", "gather", "_to_copy", "constant_pad_nd",
         "flip", "empty", "zeros", "new_zeros", "zeros_like", "ones_like", "fill_", "zero_",
         "nonzero", "index_copy", "full", "empty_like", "new_empty_strided", "complex",
         "new_empty", "arange", "eq", "lt", "gt")  # fmt: skip


class CostCounter(TorchDispatchMode):
    """`with CostCounter() as cost:` counts every op run inside; eager, nothing fused.

    `flops`: multiplications and additions (a complex multiplication is 6, an FFT of n points
    5 n log2 n); `bytes`: all operands read once and results written once per op, views free;
    `unknown`: names of compiled ops that hide theirs (`tpcalc::conv` and
    `weight_products` are known).
    """

    def __init__(self):
        super().__init__()
        self.flops = 0.0
        self.bytes = 0.0
        self.unknown: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        name = func.__name__.partition(".")[0]
        if name in _FREE:
            return out
        tensors = [t for t in _flat((args, out)) if isinstance(t, torch.Tensor)]
        self.bytes += sum(t.numel() * t.element_size() for t in tensors)
        if name == "conv":
            self.flops += _conv_flops(*args[:9])
        elif name == "weight_products":  # two products and a sum for each term
            self.flops += 3.0 * out.numel() * args[1].shape[0]
        elif func.namespace != "aten":
            self.unknown.add(f"{func.namespace}::{name}")
        elif name not in _COPY:
            self.flops += _flops(name, args, out)
        return out


def _conv_flops(h, y, w, senders, receivers, paths, couplings, coef, n) -> float:
    """`tpcalc::conv`: per edge and row the matrix M from its non-zeros, then every entry of M
    with every channel, one weight and one addition an output."""
    total = 0
    for _, d3, mul, *_, begin, end in paths.tolist():
        entries = len(set(couplings[begin:end, 0].tolist()))
        total += 2 * (end - begin) + 2 * entries * mul + 2 * d3 * mul
    return float(total * senders.numel())


def _flops(name: str, args, out) -> float:
    """Operations of one aten op."""
    first = next(t for t in _flat((out,)) if isinstance(t, torch.Tensor))
    factor = 6 if first.is_complex() and "mul" in name else 2 if first.is_complex() else 1
    if name in ("mm", "bmm", "matmul"):
        return 2.0 * first.numel() * args[0].shape[-1]
    if name in ("addmm", "baddbmm"):
        return 2.0 * first.numel() * args[1].shape[-1]
    if name.startswith("_fft"):
        points = math.prod(first.shape[d] for d in args[1])
        return 5.0 * first.numel() * math.log2(max(points, 2))
    if name in ("sum", "mean", "index_add", "index_add_"):
        return float(args[0].numel() if name in ("sum", "mean") else args[3].numel())
    return float(first.numel() * factor)  # elementwise


def _flat(items):
    for item in items:
        if isinstance(item, (tuple, list)):
            yield from _flat(item)
        else:
            yield item


def convolution_cost(conv, num_nodes: int = 100, degree: int = 20, dtype=torch.float32) -> dict:
    """Cost of one edge of a convolution, basis apart: {"flops", "bytes", "basis_flops", ...}.

    Bytes of a fused kernel are its operands and results alone. Compiled ops that are not known
    here are named in "unknown".
    """
    edges = num_nodes * degree
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=generator).to(dtype)

    vectors = normal(edges, 3)
    feats, w = normal(num_nodes, conv.irreps_node.dim), normal(edges, conv.weight_numel)
    senders = torch.randint(0, num_nodes, (edges,), generator=generator)
    receivers = torch.arange(num_nodes).repeat_interleave(degree)
    conv = conv.to(dtype)  # tables in their own dtype: no casts counted
    with torch.no_grad(), CostCounter() as basis_cost:
        basis = conv.edge_basis(vectors)
    with torch.no_grad(), CostCounter() as cost:
        conv(feats, basis, w, senders, receivers)
    return {
        "algorithm": conv.algorithm_class,
        "flops": cost.flops / edges,
        "bytes": cost.bytes / edges,
        "basis_flops": basis_cost.flops / edges,
        "basis_numel": basis.shape[1:].numel(),
        "unknown": sorted(cost.unknown | basis_cost.unknown),
    }
