"""The gated non-linearity: scalars through an activation, higher degrees times gates."""

from __future__ import annotations

import torch
from e3nn.o3 import Irrep, Irreps

from tpcalc.nn.radial import SILU_NORM

TANH_NORM = 1.5925374197228321  # 1 / sqrt(E[tanh(z)^2]), z ~ N(0, 1)


class Gate(torch.nn.Module):
    """[N, irreps_in] -> [N, irreps_out]; `irreps_in` is irreps_out plus one 0e a gated channel.

    Even scalars go through SiLU, odd ones through tanh (it keeps their parity), each channel
    of higher degree is multiplied by SiLU of its own gate; activations have unit second moment.
    `as_op`: as one compiled op (`tpcalc.kernels.ops.use_ops`).
    Source: Weiler et al. 2018; Batzner et al. 2022 (NequIP).
    """

    __constants__ = ["as_op"]  # TorchScript drops branches not taken

    def __init__(self, irreps_out: Irreps):
        super().__init__()
        self.as_op = False
        even = sum(mul for mul, ir in irreps_out if ir == Irrep("0e"))
        odd = sum(mul for mul, ir in irreps_out if ir == Irrep("0o"))
        gated = [(mul, ir) for mul, ir in irreps_out if ir.l > 0]
        num_gates = sum(mul for mul, _ in gated)
        blocks = [(odd, Irrep("0o")), (even + num_gates, Irrep("0e")), *gated]
        self.irreps_in = Irreps([(mul, ir) for mul, ir in blocks if mul])
        self.irreps_out = Irreps([(m, ir) for m, ir in [(odd, "0o"), (even, "0e")] if m] + gated)
        self.num_odd, self.num_even, self.num_gates = odd, even, num_gates
        self.gated = [(int(mul), int(ir.dim)) for mul, ir in gated] or [(0, 0)]
        self.op_sizes = [odd, even, *(int(n) for mul, ir in gated for n in (mul, ir.dim))]
        self.silu_norm, self.tanh_norm = SILU_NORM, TANH_NORM

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.as_op:  # noqa: SIM102
            if not x.is_cuda:
                return torch.ops.tpcalc.gate(x, self.op_sizes, self.silu_norm, self.tanh_norm)
        n, odd = x.shape[0], self.num_odd
        parts: list[torch.Tensor] = []
        if odd > 0:
            parts.append(torch.tanh(x[:, :odd]) * self.tanh_norm)
        start = odd + self.num_even + self.num_gates
        scalars = torch.nn.functional.silu(x[:, odd:start]) * self.silu_norm
        if self.num_even > 0:
            parts.append(scalars[:, : self.num_even])
        gate = self.num_even
        for mul, dim in self.gated:
            if mul > 0:
                block = x[:, start : start + mul * dim].view(n, dim, mul)
                block = block * scalars[:, gate : gate + mul].unsqueeze(1)
                parts.append(block.reshape(n, dim * mul))
                start += mul * dim
                gate += mul
        return torch.cat(parts, 1)
