"""Rotations that carry the polar axis onto an edge, and their Wigner matrices."""

from __future__ import annotations

import torch
from e3nn.o3 import wigner_3j


def edge_rotations(edge_vectors: torch.Tensor) -> torch.Tensor:
    """R [E, 3, 3] with R y^ = r / |r|, det +1; smooth in r away from the equator.

    The shortest rotation from the nearer pole: no angle, hence no singular gradient at the
    poles. The jump of the gauge at the equator (a turn about the edge) must cancel in what is
    made of it; it does in every equivariant use. A zero edge counts as the pole.
    """
    length2 = (edge_vectors * edge_vectors).sum(1, keepdim=True)
    safe = torch.where(length2 > 0, length2, torch.ones_like(length2))
    unit = edge_vectors * safe.rsqrt()
    x, y, z = unit[:, 0], unit[:, 1], unit[:, 2]
    y = torch.where(length2.squeeze(1) > 0, y, torch.ones_like(y))
    one = torch.ones_like(y)
    sign = torch.where(y < 0, -one, one)  # half turn about x for the southern hemisphere
    y, z = y * sign, z * sign
    inverse = 1 / (1 + y)
    xz = -x * z * inverse
    rows = [
        1 - x * x * inverse, x, xz,
        -x * sign, y * sign, -z * sign,
        xz * sign, z * sign, (1 - z * z * inverse) * sign,
    ]  # fmt: skip
    return torch.stack(rows, 1).view(-1, 3, 3)


class WignerMatrices(torch.nn.Module):
    """D_l(R) for l = 1..lmax: [E, 3, 3] -> [E, sum of (2l+1)^2], flattened one after another.

    By recursion, D_l = (2l+1) C^T (D_{l-1} x R) C with C = wigner_3j(l-1, 1, l): polynomials in
    R, so differentiable everywhere and to any order. D_1 = R in e3nn's basis. lmax = 0 gives the
    one number D_0 = 1.
    """

    def __init__(self, lmax: int):
        super().__init__()
        self.lmax = lmax
        tables = [wigner_3j(l - 1, 1, l, dtype=torch.float64).flatten() for l in range(2, lmax + 1)]
        packed = torch.cat(tables) if tables else torch.zeros(0, dtype=torch.float64)
        self.register_buffer("tables", packed, persistent=False)

    def forward(self, rotation: torch.Tensor) -> torch.Tensor:
        if self.lmax == 0:
            return (rotation * rotation).sum((1, 2)).unsqueeze(1) / 3  # D_0 = 1, on the graph
        tables = self.tables.to(rotation.dtype)
        d = rotation
        parts = [d.flatten(1)]
        start = 0
        for l in range(2, self.lmax + 1):
            small, size = 2 * l - 1, 2 * l + 1
            c = tables[start : start + small * 3 * size].view(small, 3 * size)
            start += small * 3 * size
            # contract D first, R second: [E, small', (3, size)] -> [E, size, size']
            left = d.transpose(1, 2).matmul(c).view(-1, small, 3, size)  # [E, a', b, k]
            left = torch.einsum("eabk,ebc->eack", left, rotation)  # [E, a', b', k]
            left = left.reshape(-1, small * 3, size).transpose(1, 2)  # [E, k, (a' b')]
            d = left.matmul(c.reshape(small * 3, size)) * float(size)
            parts.append(d.flatten(1))
        return torch.cat(parts, 1)
