"""Powers of a function on the sphere: the many-body form of the Gaunt product."""

from __future__ import annotations

import torch

from tpcalc.errors import InputError
from tpcalc.kept_species import keep_rows
from tpcalc.o3.gaunt import gaunt
from tpcalc.o3.torus import back_projection, fourier_coefficients, orthonormal_harmonics
from tpcalc.tensor_products.gaunt.grid import choose_nodes
from tpcalc.tensor_products.symmetric.base import ManyBody


class GauntSymmetric(ManyBody):
    """B_l = sum_nu w[z, nu, l] (f^nu)_l with f(r) = sum_lm x_lm Y_lm(r), no truncation on the way.

    Here by chained Gaunt coefficients with every intermediate degree. Pseudo inputs make a
    pseudo-function; products of two of those are functions again. Parameter `weights` [species,
    correlation, out entries, channels]. A function of its own, not MACE's: even couplings only,
    factored weights. Source: Luo et al. 2024, section 3.3.
    """

    function = "gaunt"

    def __init__(self, irreps_in, irreps_out=None, correlation: int = 3, num_species: int = 1):
        super().__init__(irreps_in, irreps_out, correlation, num_species)
        shape = (num_species, correlation, len(self.irreps_out), self.mul)
        self.weights = torch.nn.Parameter(torch.randn(shape, dtype=torch.float64))
        self.signs_in = [ir.p * (-1) ** ir.l for _, ir in self.irreps_in]
        self.signs_out = [ir.p * (-1) ** ir.l for _, ir in self.irreps_out]
        self.mixed = -1 in self.signs_in  # pseudo-functions take part
        for (_, ir), sign in zip(self.irreps_out, self.signs_out):
            if sign not in self.signs_in + [1] or ir.l > correlation * self.irreps_in.lmax:
                raise InputError(f"no power of functions of {self.irreps_in} holds {ir}")
        entry = [torch.full((ir.dim,), n) for n, (_, ir) in enumerate(self.irreps_out)]
        self.register_buffer("entry_out", torch.cat(entry), persistent=False)
        self._make_tables()

    @torch.jit.unused
    def keep_species(self, index: torch.Tensor) -> None:
        """See `Potential.of_species`."""
        keep_rows(self, index, "weights")
        self.num_species = len(index)

    @torch.jit.unused
    def _spread(self, irreps, signs, sign: int, table: torch.Tensor) -> torch.Tensor:
        """Rows of a table over (l, m) for each component; zero for entries of the other sign."""
        rows = [
            table[ir.l**2 : (ir.l + 1) ** 2] * float(s == sign) for (_, ir), s in zip(irreps, signs)
        ]
        return torch.cat(rows)

    @torch.jit.unused
    def _make_tables(self) -> None:
        lmax, out_max = self.irreps_in.lmax, self.irreps_out.lmax
        self.steps: list[list[int]] = []
        couplings = []
        for nu in range(2, self.correlation + 1):
            degrees = ((nu - 1) * lmax, lmax, nu * lmax)
            sizes = [(l + 1) ** 2 for l in degrees]
            dense = torch.zeros(sizes, dtype=torch.float64)
            for a in range(degrees[0] + 1):
                for b in range(degrees[1] + 1):
                    for c in range(abs(a - b), a + b + 1, 2):
                        dense[
                            a * a : (a + 1) ** 2, b * b : (b + 1) ** 2, c * c : (c + 1) ** 2
                        ] = gaunt(a, b, c)  # fmt: skip
            self.steps.append(sizes)
            couplings.append(dense.flatten())
        flat = torch.cat(couplings) if couplings else torch.zeros(0, dtype=torch.float64)
        self.register_buffer("couplings", flat, persistent=False)
        eye = torch.eye((max(lmax, out_max) + 1) ** 2, dtype=torch.float64)
        d, d_out = (lmax + 1) ** 2, (out_max + 1) ** 2
        for name, sign in (("plus", 1), ("minus", -1)):
            into = self._spread(self.irreps_in, self.signs_in, sign, eye[:, :d])
            back = self._spread(self.irreps_out, self.signs_out, sign, eye[:, :d_out])
            self.register_buffer(f"in_{name}", into.T.contiguous(), persistent=False)
            self.register_buffer(f"out_{name}", back, persistent=False)

    def powers(self, x: torch.Tensor) -> list[torch.Tensor]:
        """[N, d, C] -> projections of f, f^2, ..., each [N, d_out, C]."""
        plus = self.in_plus.to(x.dtype).matmul(x)  # coefficients of function and pseudo-function
        minus = self.in_minus.to(x.dtype).matmul(x)
        f, g = plus, minus
        found = [self.project(f, g)]
        start = 0
        for sizes in self.steps:
            a, b, c = sizes[0], sizes[1], sizes[2]
            table = self.couplings[start : start + a * b * c].view(a, b, c).to(x.dtype)
            start += a * b * c
            f, g = (
                torch.einsum("niu,nju,ijk->nku", f, plus, table)
                + torch.einsum("niu,nju,ijk->nku", g, minus, table),
                torch.einsum("niu,nju,ijk->nku", f, minus, table)
                + torch.einsum("niu,nju,ijk->nku", g, plus, table),
            )
            found.append(self.project(f, g))
        return found

    def project(self, f: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
        """Kept components of a function f and a pseudo-function g: [N, d_out, C]."""
        return self.cut(self.out_plus, f) + self.cut(self.out_minus, g)

    def cut(self, table: torch.Tensor, f: torch.Tensor) -> torch.Tensor:
        """Keep the degrees of the output; those that do not occur are zero."""
        n = min(table.shape[1], f.shape[1])
        return table[:, :n].to(f.dtype).matmul(f[:, :n])

    def forward(self, node_feats: torch.Tensor, species: torch.Tensor) -> torch.Tensor:
        x = node_feats.unflatten(1, [self.d_in, self.mul])
        weights = self.weights.to(x.dtype).index_select(0, species)  # [N, nu, entries, C]
        weights = weights.index_select(2, self.entry_out)
        powers = self.powers(x)
        out = powers[0] * weights[:, 0]
        for nu in range(1, len(powers)):
            out = out + powers[nu] * weights[:, nu]
        return out.flatten(1)


class GauntSymmetricGrid(GauntSymmetric):
    """Values at nodes that are exact for the highest power; multiply, project once a power.

    `nodes` as in `gaunt/grid`; the integrand has degree correlation * lmax + lmax_out.
    """

    options = ("nodes",)

    def __init__(self, irreps_in, irreps_out=None, correlation: int = 3, num_species: int = 1,
                 nodes="lebedev"):  # fmt: skip
        self.node_rule = nodes
        super().__init__(irreps_in, irreps_out, correlation, num_species)

    @torch.jit.unused
    def _make_tables(self) -> None:
        lmax, out_max = self.irreps_in.lmax, self.irreps_out.lmax
        points, weights = choose_nodes(self.node_rule, self.correlation * lmax + out_max)
        values = orthonormal_harmonics(max(lmax, out_max), points).T  # [(l, m), nodes]
        plus, minus = (self._spread(self.irreps_in, self.signs_in, s, values) for s in (1, -1))
        out_plus, out_minus = (
            self._spread(self.irreps_out, self.signs_out, s, values * weights) for s in (1, -1)
        )
        if self.mixed:  # f + g and f - g: sums of their powers are functions, differences pseudo
            plus = torch.cat([plus + minus, plus - minus], 1)
            out_plus = torch.cat([out_plus + out_minus, out_plus - out_minus], 1) / 2
        self.register_buffer("to_nodes", plus.T.contiguous(), persistent=False)
        self.register_buffer("from_nodes", out_plus.contiguous(), persistent=False)

    def powers(self, x: torch.Tensor) -> list[torch.Tensor]:
        f = self.to_nodes.to(x.dtype).matmul(x)  # [N, nodes, C]
        back = self.from_nodes.to(x.dtype)
        power = f
        found = [back.matmul(power)]
        for _ in range(self.correlation - 1):
            power = power * f
            found.append(back.matmul(power))
        return found


class GauntSymmetricFourier(GauntSymmetric):
    """The powers as 2D Fourier series, by divide and conquer: f^nu = f^(nu/2) f^(nu - nu/2).

    Every product is a convolution by FFT at its own smallest size.
    """

    @torch.jit.unused
    def _make_tables(self) -> None:
        lmax, out_max = self.irreps_in.lmax, self.irreps_out.lmax
        self.lmax = lmax
        series = fourier_coefficients(lmax)
        plus, minus = (self._spread(self.irreps_in, self.signs_in, s, series) for s in (1, -1))
        into = torch.stack([plus + minus, plus - minus] if self.mixed else [plus])
        self.groups = len(into)
        into = into.permute(0, 2, 3, 1).flatten(0, 2)  # [groups n n, d]
        self.register_buffer("into", torch.stack([into.real, into.imag]), persistent=False)
        backs = []
        for nu in range(1, self.correlation + 1):
            table = back_projection(out_max, nu * lmax)
            plus, minus = (self._spread(self.irreps_out, self.signs_out, s, table) for s in (1, -1))
            both = [(plus + minus) / 2, (plus - minus) / 2] if self.mixed else [plus]
            back = torch.stack(both, 1).flatten(1)  # [d_out, groups n n]
            backs.append(torch.stack([back.real, back.imag]).flatten())
        self.back_sizes = [len(b) for b in backs]
        self.register_buffer("backs", torch.cat(backs), persistent=False)

    def multiply(self, f: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
        """Convolution of two series [N, groups, n, n, C]."""
        n = f.shape[2] + g.shape[2] - 1
        if f.numel() == 0:  # MKL refuses empty batches
            return torch.zeros(f.shape[0], f.shape[1], n, n, f.shape[4], dtype=f.dtype,
                               device=f.device)  # fmt: skip
        f = torch.fft.fft2(f, [n, n], [2, 3])
        g = torch.fft.fft2(g, [n, n], [2, 3])
        return torch.fft.ifft2(f * g, None, [2, 3])

    def powers(self, x: torch.Tensor) -> list[torch.Tensor]:
        into = self.into.to(x.dtype)
        n = 2 * self.lmax + 1
        f = torch.complex(into[0].matmul(x), into[1].matmul(x)).unflatten(1, [self.groups, n, n])
        series = [f]
        found: list[torch.Tensor] = []
        backs = torch.split(self.backs.to(x.dtype), self.back_sizes)
        for nu in range(1, self.correlation + 1):
            if nu > 1:
                half = nu // 2
                series.append(self.multiply(series[half - 1], series[nu - half - 1]))
            flat = series[nu - 1].flatten(1, 3)
            back = backs[nu - 1].view(2, self.d_out, flat.shape[1])
            found.append(back[0].matmul(torch.real(flat)) - back[1].matmul(torch.imag(flat)))
        return found
