"""Screened nuclear repulsion at short distances."""

from __future__ import annotations

import torch

from tpcalc.errors import InputError
from tpcalc.kept_species import keep_rows
from tpcalc.nn.cutoff import PolynomialCutoff
from tpcalc.nn.double import Double
from tpcalc.nn.elements import ATOMIC_NUMBERS, numbers_and_radii


class Zbl(Double):
    """Half of the Ziegler-Biersack-Littmark energy of each edge, summed at its receiver: [n_local].

    V(r) = (k Zi Zj / r) phi(r / a) f(r), a = 0.4543 * 0.529 Å / (Zi^0.3 + Zj^0.3), f the
    polynomial cutoff at the sum of the covalent radii. As MACE has it; constants are buffers,
    so that an imported model keeps its own rounding.

    Raises:
        InputError: an element without a tabulated radius.
    """

    def __init__(self, species: list[str], p: float = 6.0):
        super().__init__()
        numbers, radii = numbers_and_radii(species)
        self.p = float(p)
        self.register_buffer("numbers", torch.tensor(numbers, dtype=torch.float64))
        self.register_buffer("radii", torch.tensor(radii, dtype=torch.float64))
        c = [0.1818, 0.5099, 0.2802, 0.02817]
        self.register_buffer("coefficients", torch.tensor(c, dtype=torch.float64))
        screening = torch.tensor([0.300, 0.4543], dtype=torch.float64)
        self.register_buffer("screening", screening)  # exponent, prefactor

    @torch.jit.unused
    def keep_species(self, index: torch.Tensor) -> None:
        """See `Potential.of_species`."""
        keep_rows(self, index, "numbers", "radii")

    def forward(self, edge_lengths: torch.Tensor, z_senders: torch.Tensor,
                z_receivers: torch.Tensor, receivers: torch.Tensor,
                n_local: int) -> torch.Tensor:  # fmt: skip
        """`z_senders`, `z_receivers`: species index at either end of each edge, [E]."""
        end = self.radii.index_select(0, z_senders) + self.radii.index_select(0, z_receivers)
        close = torch.nonzero(edge_lengths < end).squeeze(1)  # few; the others add nothing
        r, end = edge_lengths.index_select(0, close), end.index_select(0, close)
        receivers = receivers.index_select(0, close)
        zs = self.numbers.index_select(0, z_senders.index_select(0, close))
        zr = self.numbers.index_select(0, z_receivers.index_select(0, close))
        exponent, prefactor = self.screening[0], self.screening[1]
        x = r * (zs.pow(exponent) + zr.pow(exponent)) / (prefactor * 0.529)  # 0.529 Å: MACE's Bohr
        c = self.coefficients
        phi = c[0] * torch.exp(-3.2 * x) + c[1] * torch.exp(-0.9423 * x)
        phi = phi + c[2] * torch.exp(-0.4028 * x) + c[3] * torch.exp(-0.2016 * x)
        u, p = r / end, self.p
        envelope = 1.0 - u.pow(p) * (
            (p + 1.0) * (p + 2.0) / 2.0 - p * (p + 2.0) * u + p * (p + 1.0) / 2.0 * u * u
        )
        # 14.3996 eV Å = e^2 / (4 pi epsilon_0)
        energy = 0.5 * 14.3996 * zs * zr / r * phi * envelope
        return energy.new_zeros(n_local).index_add(0, receivers, energy)


class UniversalZbl(Double):
    """Half of the ZBL energy of each edge, summed at its receiver, under the model's cutoff.

    V(r) = (k Zi Zj / r) phi(r / a) f(r / rc), a = 0.4685 Å / (Zi^0.23 + Zj^0.23): the universal
    screening of LAMMPS' `pair_style zbl` with its constants, as NequIP has it. It is in eV after
    `Potential` has multiplied by its scale: `strength` [num_species] is 1 / `scale`, of a number or
    one a species.

    Raises:
        InputError: no species, or one that is no element.
    """

    def __init__(self, species: list[str], cutoff: float, p: float = 6.0,
                 scale: float | list[float] = 1.0):  # fmt: skip
        super().__init__()
        unknown = [s for s in species if s not in ATOMIC_NUMBERS]
        if unknown or not species:
            raise InputError(
                f"ZBL repulsion needs element symbols, got {', '.join(unknown) or 'none'}"
            )
        numbers = torch.tensor([float(ATOMIC_NUMBERS[s]) for s in species], dtype=torch.float64)
        self.register_buffer("numbers", numbers)
        # half of e^2 / (4 pi epsilon_0), eV Å
        self.register_buffer("prefactor", torch.tensor(0.5 * 14.399645, dtype=torch.float64))
        strength = 1.0 / torch.tensor(scale, dtype=torch.float64).expand(len(species))
        self.register_buffer("strength", strength.clone())
        self.cutoff = PolynomialCutoff(cutoff, p)

    @torch.jit.unused
    def keep_species(self, index: torch.Tensor) -> None:
        """See `Potential.of_species`."""
        keep_rows(self, index, "numbers", "strength")

    def forward(self, edge_lengths: torch.Tensor, z_senders: torch.Tensor,
                z_receivers: torch.Tensor, receivers: torch.Tensor,
                n_local: int) -> torch.Tensor:  # fmt: skip
        """As `Zbl.forward`: [n_local]."""
        r = edge_lengths
        zs, zr = self.numbers.index_select(0, z_senders), self.numbers.index_select(0, z_receivers)
        x = r * (zs.pow(0.23) + zr.pow(0.23)) / 0.46850
        phi = 0.02817 * torch.exp(-0.20162 * x) + 0.28022 * torch.exp(-0.40290 * x)
        phi = phi + 0.50986 * torch.exp(-0.94229 * x) + 0.18175 * torch.exp(-3.19980 * x)
        energy = self.prefactor * zs * zr / r * phi * self.cutoff(r)
        energy = energy * self.strength.index_select(0, z_receivers)
        return energy.new_zeros(n_local).index_add(0, receivers, energy)
