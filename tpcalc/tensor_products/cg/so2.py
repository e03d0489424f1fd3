"""Clebsch-Gordan convolution in the frame of the edge, where it is nearly diagonal (eSCN)."""

from __future__ import annotations

import math

import torch
from e3nn.o3 import wigner_3j

from tpcalc.errors import InputError
from tpcalc.o3.rotations import WignerMatrices, edge_rotations
from tpcalc.tensor_products.base import Convolution
from tpcalc.tensor_products.cg.reference import CgReference


class CgSo2(CgReference):
    """Rotate the edge onto the polar axis, mix +m and -m, rotate back (eSCN).

    Y_l2(y^) has m = 0 only, so that a path takes component m to component +m (even sum of
    degrees) or -m (odd): 2 min(l1, l3) + 1 numbers instead of a dense coupling. Exact for any
    path weights. The saving exists only where the second operand is the harmonics of an edge:
    `convolution` uses it, the bilinear map of two features is the reference's. Source: Passaro
    and Zitnick 2023.
    """

    places = ("convolution",)

    def __init__(self, irreps_in1, irreps_in2, irreps_out=None):
        super().__init__(irreps_in1, irreps_in2, irreps_out)
        if any(mul != 1 for mul, _ in self.irreps_in2):
            raise InputError(
                f"cg/so2 needs the one-channel harmonics of an edge, not {self.irreps_in2}: use "
                "cg/sparse or cg/reference"
            )
        self.m_max = self.largest_m()

    @torch.jit.unused
    def largest_m(self) -> int:
        """Largest |m| that any path carries."""
        return max(min(p.l1, p.l3) for p in self.paths)

    def convolution(self) -> Convolution:
        return So2Convolution(self)


class CgSo2Truncated(CgSo2):
    """`cg/so2` without the components |m| > `m_max` (default 1) of the edge frame.

    A controlled approximation that stays exactly equivariant and smooth; it drops the finest
    turns about the edge (eSCN's and EquiformerV2's m_max). The bilinear map does not exist:
    truncation belongs to the frame of an edge.
    """

    exact = False
    options = ("m_max",)

    def __init__(self, irreps_in1, irreps_in2, irreps_out=None, m_max: int = 1):
        super().__init__(irreps_in1, irreps_in2, irreps_out)
        if not isinstance(m_max, int) or m_max < 0:
            raise InputError(f"m_max={m_max!r}; a whole number >= 0 is needed")
        self.m_max = m_max
        self.exact = m_max >= self.largest_m()

    @torch.jit.unused
    def forward(self, x: torch.Tensor, y: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        raise InputError("cg/so2_truncated exists as a convolution only; use cg/so2 or convolution")


class So2Basis(torch.nn.Module):
    """Wigner matrices of the rotations onto the edges: [E, 3] -> [E, sum of (2l+1)^2, l >= 1]."""

    def __init__(self, lmax: int):
        super().__init__()
        self.spec = ("wigner", str(lmax))
        self.wigner = WignerMatrices(lmax)

    def forward(self, edge_vectors: torch.Tensor) -> torch.Tensor:
        return self.wigner(edge_rotations(edge_vectors))


class So2Convolution(Convolution):
    """Gather, rotate, mix, rotate back, sum."""

    def __init__(self, tensor_product: CgSo2):
        lmax = max(tensor_product.irreps_in1.lmax, tensor_product.irreps_out.lmax)
        super().__init__(tensor_product, So2Basis(lmax))
        self.inputs = [[ir.l, mul] for mul, ir in self.irreps_node]
        self.x_widths = [mul * ir.dim for mul, ir in self.irreps_node]
        self.outputs = [ir.l for _, ir in self.irreps_out]
        self.first = min(1, lmax)  # degree of the first block
        self.basis_widths = [(2 * l + 1) ** 2 for l in range(self.first, lmax + 1)]
        self.weight_widths = [p.mul for p in tensor_product.paths]
        # per path: entry of x, output entry, l1, l3, m kept, odd sum of degrees
        self.rows = [
            [p.in1, p.out, p.l1, p.l3, min(p.l1, p.l3, tensor_product.m_max),
             (p.l1 + p.l2 + p.l3) % 2]
            for p in tensor_product.paths
        ]  # fmt: skip
        mixing = [_mixing(p, row[4]) for p, row in zip(tensor_product.paths, self.rows)]
        self.mixing_widths = [len(m) for m in mixing]
        self.register_buffer("mixing", torch.cat(mixing), persistent=False)

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
        x = node_feats.index_select(0, senders)
        blocks = torch.split(edge_basis, self.basis_widths, 1)
        weights = torch.split(edge_weights, self.weight_widths, 1)
        mixing = torch.split(self.mixing.to(x.dtype), self.mixing_widths)
        turned: list[torch.Tensor] = []
        for part, (l, mul) in zip(torch.split(x, self.x_widths, 1), self.inputs):
            part = part.unflatten(1, [2 * l + 1, mul])
            if l >= self.first:
                d = blocks[l - self.first].unflatten(1, [2 * l + 1, 2 * l + 1])
                part = d.transpose(1, 2).matmul(part)  # D^T x: into the frame of the edge
            turned.append(part)
        collected: list[list[torch.Tensor]] = [[] for _ in self.outputs]
        for row, w, k in zip(self.rows, weights, mixing):
            i, out, l1, l3, m, odd = row[0], row[1], row[2], row[3], row[4], row[5]
            part = turned[i][:, l1 - m : l1 + m + 1]  # [E, 2m+1, mul]
            if odd > 0:
                part = part.flip(1)
            part = part * (w.unsqueeze(1) * k.unsqueeze(1))
            collected[out].append(torch.nn.functional.pad(part, [0, 0, l3 - m, l3 - m]))
        finished: list[torch.Tensor] = []
        for parts, l in zip(collected, self.outputs):
            z = torch.cat(parts, 2)  # [E, 2l+1, channels of all paths]
            if l >= self.first:
                z = blocks[l - self.first].unflatten(1, [2 * l + 1, 2 * l + 1]).matmul(z)
            finished.append(z.flatten(1))
        messages = torch.cat(finished, 1)
        out_feats = torch.zeros(n, self.out_dim, dtype=messages.dtype, device=messages.device)
        return out_feats.index_add(0, receivers, messages)


def _mixing(path, m: int) -> torch.Tensor:
    """Coefficients of components -m..m of the output of a path, [2m+1]."""
    scale = math.sqrt((2 * path.l2 + 1) * (2 * path.l3 + 1))  # Y_l2(pole) = sqrt(2 l2 + 1)
    slab = wigner_3j(path.l1, path.l2, path.l3, dtype=torch.float64)[:, path.l2] * scale
    kept = slab[path.l1 - m : path.l1 + m + 1, path.l3 - m : path.l3 + m + 1]
    odd = (path.l1 + path.l2 + path.l3) % 2
    return (kept.flip(0) if odd else kept).diagonal().clone()
