"""The Gaunt product on nodes of the sphere: evaluate, multiply, project."""

from __future__ import annotations

import math

import torch
from e3nn.o3 import Irreps

from tpcalc.errors import InputError, check_name
from tpcalc.o3.harmonics import SphericalHarmonics
from tpcalc.o3.quadrature import gauss_fourier, gauss_fourier_size, lebedev
from tpcalc.tensor_products.apply import apply_table
from tpcalc.tensor_products.gaunt.reference import GauntReference


class GauntGrid(GauntReference):
    """z = Y^T (q (Y x) (Y y)) with exact nodes: three small matrix products.

    Exact, not approximate: the integrand has degree l1 + l2 + l3 (largest degrees, l3 as kept)
    and the smallest rule of that degree is chosen. `nodes` is "lebedev" (fewest nodes,
    default) or "gauss" (Gauss-Legendre x Fourier, floor(d/2)+1 by d+1), or such a pair
    (n_beta, n_alpha). Source: Xie et al. 2025 (GTP on the S2 grid).
    """

    options = ("terms", "nodes")

    def __init__(self, irreps_in1, irreps_in2, irreps_out=None, terms: int = 1, nodes="lebedev"):
        self.node_rule = nodes
        super().__init__(irreps_in1, irreps_in2, irreps_out, terms)

    @torch.jit.unused
    def _make_tables(self) -> None:
        lists = (self.irreps_in1, self.irreps_in2, self.irreps_out)
        degree = sum(irreps.lmax for irreps in lists)
        points, weights = choose_nodes(self.node_rule, degree)
        harmonics = SphericalHarmonics(max(irreps.lmax for irreps in lists))(points)
        harmonics = harmonics / math.sqrt(4 * math.pi)  # orthonormal, [nodes, (lmax+1)^2]
        tables = [_columns(harmonics, irreps) for irreps in lists]
        # a function and its pseudo twin do not mix: parity p (-1)^l is a sign of the signal
        signs = [[ir.p * (-1) ** ir.l for _, ir in irreps] for irreps in lists]
        groups1, groups2, groups3 = [], [], []
        for s1 in sorted(set(signs[0]), reverse=True):
            for s2 in sorted(set(signs[1]), reverse=True):
                if s1 * s2 not in signs[2]:
                    continue
                groups1.append(tables[0] * _mask(signs[0], s1, self.dims1))
                groups2.append(tables[1] * _mask(signs[1], s2, self.dims2))
                groups3.append(tables[2] * weights[:, None] * _mask(signs[2], s1 * s2, self.dims3))
        self.register_buffer("to_nodes1", torch.cat(groups1), persistent=False)
        self.register_buffer("to_nodes2", torch.cat(groups2), persistent=False)
        self.register_buffer("from_nodes", torch.cat(groups3).T.contiguous(), persistent=False)

    def weighted_product(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        f = apply_table(self.to_nodes1.to(x.dtype), x)  # [..., nodes, mul]
        g = apply_table(self.to_nodes2.to(x.dtype), y)
        return apply_table(self.from_nodes.to(x.dtype), f * g)  # [..., d3, mul]


def choose_nodes(rule, degree: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Nodes [n, 3] and weights [n] of the smallest grid of a kind that is exact at `degree`.

    Raises:
        InputError: unknown kind, or a pair (n_beta, n_alpha) that is too small.
    """
    needed = gauss_fourier_size(degree)
    if isinstance(rule, (tuple, list)):
        if rule[0] < needed[0] or rule[1] < needed[1]:
            raise InputError(
                f"nodes={tuple(rule)} cannot integrate degree {degree} exactly; the product of "
                f"these irreps needs at least {needed}"
            )
        return gauss_fourier(*rule)
    if check_name("node rule", rule, ("lebedev", "gauss")) == "gauss":
        return gauss_fourier(*needed)
    return lebedev(degree)


def _columns(harmonics: torch.Tensor, irreps: Irreps) -> torch.Tensor:
    return torch.cat([harmonics[:, ir.l**2 : (ir.l + 1) ** 2] for _, ir in irreps], 1)


def _mask(signs: list[int], keep: int, dims: list[int]) -> torch.Tensor:
    """1 for the components of the entries with the wanted sign."""
    kept = torch.tensor([float(sign == keep) for sign in signs], dtype=torch.float64)
    return torch.repeat_interleave(kept, torch.tensor(dims))
