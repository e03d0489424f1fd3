"""Path-weight sharing: the Clebsch-Gordan product with one weight for all paths."""

from __future__ import annotations

import torch

from tpcalc.tensor_products.base import TensorProduct
from tpcalc.tensor_products.paths import as_irreps, coupling_tables, enumerate_paths


class SharedReference(TensorProduct):
    """z_k = w sum_p sqrt(2 l3 + 1) sum_ij C^{l1 l2 l3}_ijk x_i y_j, all paths summed.

    One dense tensor M_ijk for all degrees together, applied channel by channel; every degree
    has the same multiplicity. Weights: one column per channel. A channel cannot weigh its
    paths against each other; mixing comes from the linear layers around it. Source: Lin et
    al. 2025 (TDN, path-weight sharing); only O(3)-allowed paths are summed, TDN's own code
    also mixes in the odd ones.
    """

    function = "shared"

    def __init__(self, irreps_in1, irreps_in2, irreps_out=None):
        super().__init__(irreps_in1, irreps_in2)
        irreps_out = None if irreps_out is None else as_irreps(irreps_out)
        self.paths, self.irreps_out = enumerate_paths(
            self.irreps_in1, self.irreps_in2, irreps_out, merge=True
        )
        self.mul = self.paths[0].mul
        self.weight_numel = self.mul
        self.uvu = self.channel_mode == "uvu"
        self.d1 = sum(ir.dim for _, ir in self.irreps_in1)
        self.d2 = sum(ir.dim for _, ir in self.irreps_in2)
        self.register_buffer("coupling", self._dense(), persistent=False)

    @torch.jit.unused
    def _dense(self) -> torch.Tensor:
        """M [d1, d2, d3], the sum over all paths."""
        starts = [
            [sum(ir.dim for _, ir in irreps[:n]) for n in range(len(irreps))]
            for irreps in (self.irreps_in1, self.irreps_in2, self.irreps_out)
        ]
        d3 = sum(ir.dim for _, ir in self.irreps_out)
        dense = torch.zeros(self.d1, self.d2, d3, dtype=torch.float64)
        for p, table in zip(self.paths, coupling_tables(self.paths)):
            i, j, k = starts[0][p.in1], starts[1][p.in2], starts[2][p.out]
            dense[i : i + 2 * p.l1 + 1, j : j + 2 * p.l2 + 1, k : k + 2 * p.l3 + 1] += table
        return dense

    def forward(self, x: torch.Tensor, y: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        m = self.coupling.to(x.dtype)
        x = x.unflatten(-1, [self.d1, self.mul])  # [..., d1, mul]
        if self.uvu:
            z = torch.einsum("...iu,...j,ijk,...u->...ku", x, y, m, w)
        else:
            y = y.unflatten(-1, [self.d2, self.mul])
            z = torch.einsum("...iu,...ju,ijk,...u->...ku", x, y, m, w)
        return z.flatten(-2)
