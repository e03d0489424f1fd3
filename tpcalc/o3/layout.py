"""The two orders of feature vectors: ours (ir_mul) and e3nn's (mul_ir).

ir_mul: within an irrep block the component m is outer and the channel inner and contiguous,
so that kernels run over channels and a linear layer is one matrix product per degree.
"""

from __future__ import annotations

import torch
from e3nn.o3 import Irreps


def ir_mul_index(irreps: Irreps) -> torch.Tensor:
    """`index` [dim] with `x_ir_mul = x_mul_ir[..., index]`."""
    parts, offset = [], 0
    for mul, ir in irreps:
        block = torch.arange(mul * ir.dim).reshape(mul, ir.dim)
        parts.append(offset + block.T.reshape(-1))
        offset += mul * ir.dim
    return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.long)


def mul_ir_index(irreps: Irreps) -> torch.Tensor:
    """`index` [dim] with `x_mul_ir = x_ir_mul[..., index]`."""
    return torch.argsort(ir_mul_index(irreps))


def to_ir_mul(x: torch.Tensor, irreps: Irreps) -> torch.Tensor:
    """From e3nn's order to ours, last axis."""
    return x[..., ir_mul_index(irreps).to(x.device)]


def to_mul_ir(x: torch.Tensor, irreps: Irreps) -> torch.Tensor:
    """From our order to e3nn's, last axis."""
    return x[..., mul_ir_index(irreps).to(x.device)]
