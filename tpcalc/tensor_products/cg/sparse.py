"""Clebsch-Gordan product over the non-zero coefficients only."""

from __future__ import annotations

import torch

from tpcalc.tensor_products.cg.reference import CgReference


class CgSparse(CgReference):
    """The same product, walking the non-zeros (i, j, k) of each coupling.

    Complexity O(nnz) instead of O((2l1+1)(2l2+1)(2l3+1)) a path; in the real basis
    |m3| is |m1+m2| or |m1-m2|, so nnz grows as L^2 a path (Xie et al. 2025, sparse CGTP).
    With a one-channel second operand the non-zeros are first summed, free of channels, into
    M_ik = sum_j C_ijk y_j, and M is applied to all channels at once.
    """

    def __init__(self, irreps_in1, irreps_in2, irreps_out=None):
        super().__init__(irreps_in1, irreps_in2, irreps_out)
        rows, start = [], 0
        i_all, j_all, k_all, c_all, self.counts = [], [], [], [], []
        for _, _, d1, d2, d3, _, _ in self.rows:
            c = self.couplings[start : start + d1 * d2 * d3].view(d1, d2, d3)
            start += d1 * d2 * d3
            i, j, k = torch.nonzero(c.abs() > 1e-12, as_tuple=True)
            i_all.append(i), j_all.append(j), k_all.append(k), c_all.append(c[i, j, k])
            self.counts.append(int(i.numel()))
            rows.append(i.numel())
        self.register_buffer("nz_i", torch.cat(i_all), persistent=False)
        self.register_buffer("nz_j", torch.cat(j_all), persistent=False)
        self.register_buffer("nz_k", torch.cat(k_all), persistent=False)
        self.couplings = torch.cat(c_all)

    def forward(self, x: torch.Tensor, y: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        couplings = self.couplings.to(x.dtype)
        n_start, w_start, block = 0, 0, 0
        blocks: list[torch.Tensor] = []
        parts: list[torch.Tensor] = []
        for row, nnz in zip(self.rows, self.counts):
            x0, y0, d1, d2, d3, mul, out = row[0], row[1], row[2], row[3], row[4], row[5], row[6]
            if out != block:
                blocks.append(torch.cat(parts, -1).flatten(-2))
                parts, block = [], out
            i = self.nz_i[n_start : n_start + nnz]
            j = self.nz_j[n_start : n_start + nnz]
            k = self.nz_k[n_start : n_start + nnz]
            c = couplings[n_start : n_start + nnz]
            xp = x[..., x0 : x0 + d1 * mul].unflatten(-1, [d1, mul])  # [..., d1, mul]
            wp = w[..., w_start : w_start + mul].unsqueeze(-2)  # [..., 1, mul]
            if self.uvu:
                yp = y[..., y0 : y0 + d2].index_select(-1, j) * c  # [..., nnz]
                shape = list(yp.shape)
                shape[-1] = d3 * d1
                m = torch.zeros(shape, dtype=x.dtype, device=x.device)
                m = m.index_add(-1, k * d1 + i, yp).unflatten(-1, [d3, d1])
                z = m.matmul(xp * wp)  # [..., d3, mul]
            else:
                yp = y[..., y0 : y0 + d2 * mul].unflatten(-1, [d2, mul])
                terms = xp.index_select(-2, i) * yp.index_select(-2, j) * c.unsqueeze(-1)
                terms = terms * wp  # [..., nnz, mul]
                shape = list(terms.shape)
                shape[-2] = d3
                z = torch.zeros(shape, dtype=x.dtype, device=x.device)
                z = z.index_add(-2, k, terms)
            parts.append(z)
            n_start += nnz
            w_start += mul
        blocks.append(torch.cat(parts, -1).flatten(-2))
        return torch.cat(blocks, -1)
