"""The Gaunt product on a product grid, degree and order summed one after the other."""

from __future__ import annotations

import math

import torch
from e3nn.o3 import Irreps

from tpcalc.o3.harmonics import SphericalHarmonics
from tpcalc.o3.quadrature import gauss_fourier, gauss_fourier_size
from tpcalc.tensor_products.gaunt.reference import GauntReference


class GauntSeparable(GauntReference):
    """`gaunt/grid` on Gauss-Legendre x Fourier nodes, Legendre and Fourier sums one by one.

    Y_lm(beta, alpha) = P_lm(beta) T_m(alpha), so a signal is made by a sum over degrees at each
    order and then one over orders: O(L^3) in place of O(L^4) multiplications a channel. Exact
    nodes as in `gaunt/grid`; for large degrees. Source: Xie et al. 2025 (GTP on the S2 grid).
    """

    @torch.jit.unused
    def _make_tables(self) -> None:
        lists = (self.irreps_in1, self.irreps_in2, self.irreps_out)
        size = gauss_fourier_size(sum(irreps.lmax for irreps in lists))
        groups = _parity_groups(lists)
        self.num_groups = len(groups)
        for n, irreps in enumerate(lists):
            legendre, fourier, order, place = _tables(irreps, size, weighted=n == 2)
            signs = torch.tensor([ir.p * (-1) ** ir.l for _, ir in irreps])
            entry = torch.repeat_interleave(
                torch.arange(len(irreps)), torch.tensor([ir.dim for _, ir in irreps])
            )
            kept = [(signs[entry] == group[n]).double()[order] for group in groups]
            masked = torch.stack([legendre * k.view(len(fourier.T), 1, -1) for k in kept])
            if n == 2:  # from nodes to components
                masked, fourier = masked.transpose(-1, -2).contiguous(), fourier.T.contiguous()
                self.register_buffer("place", place, persistent=False)
            else:
                self.register_buffer(f"order{n + 1}", order, persistent=False)
            self.register_buffer(f"legendre{n + 1}", masked, persistent=False)
            self.register_buffer(f"fourier{n + 1}", fourier, persistent=False)

    def weighted_product(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        x = x.index_select(-2, self.order1)
        y = y.index_select(-2, self.order2)
        parts: list[torch.Tensor] = []
        for group in range(self.num_groups):
            f = self._signal(x, self.legendre1[group], self.fourier1)
            g = self._signal(y, self.legendre2[group], self.fourier2)
            signal = (f * g).flatten(-2)  # [..., alpha, beta * mul]
            orders = self.fourier3.to(x.dtype).matmul(signal)  # [..., orders, beta * mul]
            legendre = self.legendre3[group].to(x.dtype)  # [orders, slots, beta]
            beta = legendre.shape[2]
            blocks = legendre.matmul(orders.unflatten(-1, [beta, signal.shape[-1] // beta]))
            parts.append(blocks.flatten(-3, -2))
        z = parts[0] if len(parts) == 1 else torch.stack(parts).sum(0)
        return z.index_select(-2, self.place)

    def _signal(
        self, x: torch.Tensor, legendre: torch.Tensor, fourier: torch.Tensor
    ) -> torch.Tensor:
        """[..., orders * slots, mul] -> values on the grid [..., alpha, beta, mul]."""
        mul = x.shape[-1]
        by_order = x.unflatten(-2, [legendre.shape[0], legendre.shape[2]])
        at_beta = legendre.to(x.dtype).matmul(by_order)  # [..., orders, beta, mul]
        values = fourier.to(x.dtype).matmul(at_beta.flatten(-2))
        return values.unflatten(-1, [legendre.shape[1], mul])


def _parity_groups(lists: tuple[Irreps, Irreps, Irreps]) -> list[tuple[int, int, int]]:
    """Signs p (-1)^l that go together: a function and its pseudo twin do not mix."""
    signs = [sorted({ir.p * (-1) ** ir.l for _, ir in irreps}, reverse=True) for irreps in lists]
    return [(a, b, a * b) for a in signs[0] for b in signs[1] if a * b in signs[2]]


def _tables(irreps: Irreps, size: tuple[int, int], weighted: bool):
    """Tables of one operand, float64.

    Returns:
        legendre [orders, beta, slots] (times the weights of the nodes if `weighted`), fourier
        [alpha, orders], order [orders * slots]: component in each slot (0 where it is empty,
        and the table is 0), place [components]: slot of each component.
    """
    lmax = irreps.lmax
    points, weights = gauss_fourier(*size)
    harmonics = SphericalHarmonics(lmax)(points) / math.sqrt(4 * math.pi)
    harmonics = harmonics.view(*size, -1)  # [beta, alpha, (lmax+1)^2]
    alpha = 2 * math.pi * (torch.arange(size[1], dtype=torch.float64) + 0.5) / size[1]
    m = torch.arange(-lmax, lmax + 1)
    angle = m.abs() * alpha[:, None]
    fourier = torch.where(m < 0, torch.sin(angle), torch.cos(angle))  # [alpha, orders]
    components = [(ir.l, k) for _, ir in irreps for k in range(-ir.l, ir.l + 1)]
    slots = [[c for c, (_, k) in enumerate(components) if k == order] for order in m.tolist()]
    width = max(map(len, slots))
    legendre = torch.zeros(len(slots), size[0], width, dtype=torch.float64)
    order = torch.zeros(len(slots), width, dtype=torch.long)
    place = torch.zeros(len(components), dtype=torch.long)
    for o, chosen in enumerate(slots):
        wave = fourier[:, o]
        for slot, c in enumerate(chosen):
            l, k = components[c]
            value = harmonics[:, :, l * l + l + k]  # a product: the projection is its factor
            legendre[o, :, slot] = value @ wave / (wave @ wave)
            order[o, slot], place[c] = c, o * width + slot
    if weighted:  # the same for all alpha
        legendre = legendre * weights.view(size)[:, :1]
    return legendre, fourier, order.flatten(), place
