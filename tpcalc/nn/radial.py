"""Radial functions: a Bessel basis under a cutoff, and the network that makes path weights."""

from __future__ import annotations

import math

import torch

from tpcalc.kept_species import keep_rows
from tpcalc.nn.cutoff import PolynomialCutoff
from tpcalc.nn.double import Double, edge_lengths
from tpcalc.nn.elements import numbers_and_radii

# 1 / sqrt(E[silu(z)^2]) for z ~ N(0, 1), by Gauss-Hermite quadrature
SILU_NORM = 1.676532470331092


class BesselBasis(Double):
    """sqrt(2/rc) sin(n pi r / rc) / r times a polynomial cutoff: [E] -> [E, num_basis].

    `prefactor` "mace" gives sqrt(2/rc), "nequip" gives 2/rc; an `envelope` replaces the
    polynomial cutoff. `as_op`: with the lengths as one compiled op
    (`tpcalc.kernels.ops.use_ops`). Source: Gasteiger et al. 2020.
    """

    __constants__ = ["as_op"]  # TorchScript drops branches not taken

    def __init__(self, cutoff: float, num_basis: int = 8, cutoff_p: float = 6.0,
                 prefactor: str = "nequip", envelope: torch.nn.Module | None = None):  # fmt: skip
        super().__init__()
        self.as_op = False
        self.num_basis = num_basis
        frequencies = torch.arange(1, num_basis + 1, dtype=torch.float64) * math.pi / cutoff
        self.frequencies = torch.nn.Parameter(frequencies, requires_grad=False)
        self.prefactor = 2.0 / cutoff if prefactor == "nequip" else math.sqrt(2.0 / cutoff)
        self.cutoff = envelope or PolynomialCutoff(cutoff, cutoff_p)

    def forward(self, edge_lengths: torch.Tensor) -> torch.Tensor:
        r = edge_lengths.unsqueeze(1)  # [E, 1]
        envelope = self.cutoff(edge_lengths).unsqueeze(1) * self.prefactor
        return torch.sin(r * self.frequencies) * (envelope / r)

    def of_edges(self, edge_vectors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """[E, 3] -> features [E, num_basis] in the same dtype, lengths [E] float64."""
        if self.as_op:  # noqa: SIM102
            if not edge_vectors.is_cuda:
                return torch.ops.tpcalc.bessel(
                    edge_vectors, self.frequencies, self.prefactor, self.cutoff.operands
                )
        lengths = edge_lengths(edge_vectors)
        return self.forward(lengths).to(edge_vectors.dtype), lengths


class RadialMLP(torch.nn.Module):
    """Bias-free network [E, num_basis] -> [E, weight_numel]; zero input gives zero output.

    Without biases the path weights vanish with the cutoff. Activations are SiLU with unit
    second moment, weights are divided by sqrt(fan-in). `as_op`: as one compiled op
    (`tpcalc.kernels.ops.use_ops`).
    """

    __constants__ = ["as_op"]  # TorchScript drops branches not taken

    def __init__(self, num_basis: int, hidden: list[int], weight_numel: int):
        super().__init__()
        self.as_op = False
        sizes = [num_basis, *hidden, weight_numel]
        self.silu_norm = SILU_NORM
        self.layers = torch.nn.ModuleList(
            ScaledLinear(n, m, silu=i < len(sizes) - 2)
            for i, (n, m) in enumerate(zip(sizes[:-1], sizes[1:]))
        )

    def forward(
        self, edge_feats: torch.Tensor, envelope: torch.Tensor | None = None
    ) -> torch.Tensor:
        """`envelope` [E, 1] multiplies the weights."""
        if self.as_op:  # noqa: SIM102
            if not edge_feats.is_cuda:
                return torch.ops.tpcalc.mlp(edge_feats, self.weights(), self.silu_norm, envelope)
        last = len(self.layers) - 1
        for n, layer in enumerate(self.layers):
            if n == last and envelope is not None:
                edge_feats = edge_feats * envelope  # smaller than the weights
            edge_feats = layer(edge_feats)
        return edge_feats

    def weights(self) -> list[torch.Tensor]:
        """Its matrices, first to last."""
        return [layer.weight for layer in self.layers]


class ScaledLinear(torch.nn.Module):
    """x W / sqrt(fan-in), then optionally a SiLU with unit second moment: [*, n] -> [*, m]."""

    def __init__(self, num_in: int, num_out: int, silu: bool):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(num_in, num_out, dtype=torch.float64))
        self.scale = 1.0 / math.sqrt(num_in)
        self.silu = silu
        self.norm = SILU_NORM

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.matmul(x, self.weight * self.scale)
        if self.silu:
            x = torch.nn.functional.silu(x) * self.norm
        return x


class AgnesiTransform(Double):
    """Distances in units of the bond: t = 1 / (1 + a s^q / (1 + s^(q-p))), s = 2 r / (Ri + Rj).

    Maps [0, inf) onto (0, 1], steepest near the sum of the covalent radii. Constants are
    buffers, so that an imported model keeps its own rounding. Source: ACEpotentials.jl,
    J. Chem. Phys. 159, 164101 (2023).

    Raises:
        InputError: an element without a tabulated radius.
    """

    def __init__(self, species: list[str]):
        super().__init__()
        radii = torch.tensor(numbers_and_radii(species)[1], dtype=torch.float64)
        self.register_buffer("radii", radii)
        constants = torch.tensor([0.9183, 4.5791, 1.0805], dtype=torch.float64)
        self.register_buffer("constants", constants)  # q, p, a

    @torch.jit.unused
    def keep_species(self, index: torch.Tensor) -> None:
        """See `Potential.of_species`."""
        keep_rows(self, index, "radii")

    def forward(self, edge_lengths: torch.Tensor, z_senders: torch.Tensor,
                z_receivers: torch.Tensor) -> torch.Tensor:  # fmt: skip
        """[E]; `z_senders`, `z_receivers`: species index at either end of each edge."""
        q, p, a = self.constants[0], self.constants[1], self.constants[2]
        ends = self.radii.index_select(0, z_senders) + self.radii.index_select(0, z_receivers)
        s = edge_lengths / (0.5 * ends)
        return 1.0 / (1.0 + a * s.pow(q) / (1.0 + s.pow(q - p)))


class TransformedBessel(Double):
    """Bessel functions sqrt(2/rc) sin(w t) / t of a (transformed) distance t: [E] -> [E, n].

    No cutoff inside: MACE puts it on these functions or on the path weights.
    """

    def __init__(self, cutoff: float, num_basis: int):
        super().__init__()
        frequencies = torch.arange(1, num_basis + 1, dtype=torch.float64) * math.pi / cutoff
        self.frequencies = torch.nn.Parameter(frequencies, requires_grad=False)
        self.prefactor = math.sqrt(2.0 / cutoff)

    def forward(self, t: torch.Tensor) -> torch.Tensor:
        t = t.unsqueeze(1)
        return torch.sin(t * self.frequencies) * (self.prefactor / t)
