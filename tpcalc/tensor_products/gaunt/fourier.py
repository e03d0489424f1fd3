"""The Gaunt product in the 2D Fourier domain: the form it was published in."""

from __future__ import annotations

import torch
from e3nn.o3 import Irreps

from tpcalc.errors import check_name
from tpcalc.o3.torus import back_projection, fourier_coefficients
from tpcalc.tensor_products.apply import apply_table
from tpcalc.tensor_products.gaunt.grid import _mask
from tpcalc.tensor_products.gaunt.reference import GauntReference


class GauntFourier(GauntReference):
    """2D Fourier series of both functions, their convolution (FFT or direct), back to the sphere.

    `method` "fft" multiplies at (2(l1+l2)+1)^2 points (O(L^2 log L)), "direct" convolves term by
    term. Exact, with tables from exact sums and Gauss-Legendre (the published notebooks' and
    benchmarks' trapezoids are 3e-4 to 1e-3 off). Same function as `gaunt/grid`, which needs
    fewer points and stays real. Source: Luo et al. 2024, section 3.2.
    """

    options = ("terms", "method")

    def __init__(self, irreps_in1, irreps_in2, irreps_out=None, terms: int = 1, method="fft"):
        self.fft = check_name("method", method, ("fft", "direct")) == "fft"
        super().__init__(irreps_in1, irreps_in2, irreps_out, terms)

    @torch.jit.unused
    def _make_tables(self) -> None:
        lists = (self.irreps_in1, self.irreps_in2, self.irreps_out)
        degrees = [irreps.lmax for irreps in lists]
        tables = [
            _entries(fourier_coefficients(degrees[0]), lists[0]),
            _entries(fourier_coefficients(degrees[1]), lists[1]),
            _entries(back_projection(degrees[2], degrees[0] + degrees[1]), lists[2]),
        ]
        self.n1, self.n2 = 2 * degrees[0] + 1, 2 * degrees[1] + 1
        self.n = self.n1 + self.n2 - 1
        # a function and its pseudo twin do not mix, see gaunt/grid
        signs = [[ir.p * (-1) ** ir.l for _, ir in irreps] for irreps in lists]
        groups: list[list[torch.Tensor]] = [[], [], []]
        for s1 in sorted(set(signs[0]), reverse=True):
            for s2 in sorted(set(signs[1]), reverse=True):
                if s1 * s2 not in signs[2]:
                    continue
                for n, (s, dims) in enumerate(
                    ((s1, self.dims1), (s2, self.dims2), (s1 * s2, self.dims3))
                ):
                    groups[n].append(tables[n] * _mask(signs[n], s, dims)[:, None, None])
        self.groups = len(groups[0])
        for name, group in zip(("table1", "table2", "table3"), groups):
            # real and imaginary part, [2, terms of the series of all groups, components]
            table = torch.stack(group).permute(0, 2, 3, 1).flatten(0, 2)
            parts = torch.stack([table.real, table.imag]).contiguous()
            self.register_buffer(name, parts, persistent=False)

    def series(self, table: torch.Tensor, x: torch.Tensor, n: int) -> torch.Tensor:
        """[..., components, mul] -> complex [..., groups, n, n, mul]."""
        table = table.to(x.dtype)
        both = torch.complex(apply_table(table[0], x), apply_table(table[1], x))
        return both.unflatten(-2, [self.groups, n, n])

    def weighted_product(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        f = self.series(self.table1, x, self.n1)
        g = self.series(self.table2, y, self.n2)
        h = self.multiply(f, g).flatten(-4, -2)  # [..., groups n n, mul]
        table = self.table3.to(x.dtype)
        real = apply_table(table[0].T, torch.real(h))
        return real - apply_table(table[1].T, torch.imag(h))  # [..., d3, mul]

    def multiply(self, f: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
        """Series of the product: [..., n1, n1, mul] * [..., n2, n2, mul] -> [..., n, n, mul]."""
        if self.fft and f.numel() > 0 and g.numel() > 0:  # MKL refuses empty batches
            f = torch.fft.fft2(f, [self.n, self.n], [-3, -2])
            g = torch.fft.fft2(g, [self.n, self.n], [-3, -2])
            return torch.fft.ifft2(f * g, None, [-3, -2])
        extra = self.n1 - 1
        terms: list[torch.Tensor] = []
        for u in range(self.n1):
            row: list[torch.Tensor] = []
            for v in range(self.n1):
                part = f[..., u : u + 1, v : v + 1, :] * g
                row.append(torch.nn.functional.pad(part, [0, 0, v, extra - v]))
            total = torch.stack(row).sum(0)
            terms.append(torch.nn.functional.pad(total, [0, 0, 0, 0, u, extra - u]))
        return torch.stack(terms).sum(0)


def _entries(table: torch.Tensor, irreps: Irreps) -> torch.Tensor:
    """Rows of a table [(lmax+1)^2, ...] in the order of the entries."""
    return torch.cat([table[ir.l**2 : (ir.l + 1) ** 2] for _, ir in irreps])
