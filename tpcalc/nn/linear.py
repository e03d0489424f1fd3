"""Equivariant linear layers: channels mix within each irrep."""

from __future__ import annotations

import math

import torch
from e3nn.o3 import Irreps

from tpcalc.errors import InputError


def _shared_blocks(irreps_in: Irreps, irreps_out: Irreps) -> list[tuple[int, int, int, int]]:
    """(first column in, components, channels in, channels out) for each output irrep.

    Raises:
        InputError: an output irrep is absent from the input, or irreps repeat.
    """
    for irreps in (irreps_in, irreps_out):
        if len({ir for _, ir in irreps}) != len(irreps):
            raise InputError(f"irreps {irreps} repeat an irrep; write each once")
    blocks = []
    for mul_out, ir in irreps_out:
        for (mul_in, ir_in), where in zip(irreps_in, irreps_in.slices()):
            if ir_in == ir:
                blocks.append((where.start, ir.dim, mul_in, mul_out))
    if len(blocks) != len(irreps_out):
        raise InputError(f"a linear layer cannot make {irreps_out} from {irreps_in}")
    return blocks


def each_block(linear: torch.nn.Module) -> list[tuple[int, torch.Tensor]]:
    """(first column of the input, matrix [in, out] or [species x in, out]) of each irrep."""
    num = getattr(linear, "num_species", 1)
    sizes = [num * i * o for *_, i, o in linear.blocks]
    parts = torch.split(linear.weight.detach(), sizes)
    return [(start, w.view(-1, o)) for (start, _, _, o), w in zip(linear.blocks, parts)]


def _op_blocks(blocks: list[tuple[int, int, int, int]]) -> list[int]:
    """The blocks as `tpcalc::linear` takes them: with the first column out, and flat."""
    numbers, column = [], 0
    for start, dim, mul_in, mul_out in blocks:
        numbers += [start, column, dim, mul_in, mul_out]
        column += dim * mul_out
    return numbers


class Linear(torch.nn.Module):
    """One matrix per irrep: [N, irreps_in] -> [N, irreps_out], scaled by 1/sqrt(fan-in).

    `as_op`: as one compiled op (`tpcalc.kernels.ops.use_ops`).
    """

    __constants__ = ["as_op"]  # TorchScript drops branches not taken

    def __init__(self, irreps_in: Irreps, irreps_out: Irreps):
        super().__init__()
        self.as_op = False
        self.blocks = _shared_blocks(irreps_in, irreps_out)
        self.op_blocks, self.out_dim = _op_blocks(self.blocks), irreps_out.dim
        parts = [torch.randn(i * o, dtype=torch.float64) / math.sqrt(i) for *_, i, o in self.blocks]
        self.weight = torch.nn.Parameter(torch.cat(parts))

    def forward(
        self, x: torch.Tensor, scale: float = 1.0, added: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The layer of `scale` times x, plus `added` [N, irreps_out]."""
        if self.as_op:  # noqa: SIM102
            if not x.is_cuda:
                one_kind = torch.empty(0, dtype=torch.long)
                return torch.ops.tpcalc.linear(
                    x, self.weight, one_kind, self.op_blocks, 1, self.out_dim, scale, False, added
                )
        if scale != 1.0:
            x = x * scale
        n = x.shape[0]
        parts: list[torch.Tensor] = []
        offset = 0
        for start, dim, mul_in, mul_out in self.blocks:
            w = self.weight[offset : offset + mul_in * mul_out].view(mul_in, mul_out)
            offset += mul_in * mul_out
            block = x[:, start : start + dim * mul_in].reshape(n * dim, mul_in)
            parts.append(block.matmul(w).view(n, dim * mul_out))
        out = torch.cat(parts, 1) if len(parts) > 1 else parts[0]
        return out if added is None else out + added


# up to here one product over species x channels wins; above, atoms are grouped by species
DENSE_SPECIES = 8


class SpeciesLinear(torch.nn.Module):
    """One matrix per irrep and species: the self-connection of NequIP, [N, in] -> [N, out].

    The same map as a fully connected product with one-hot species (scaled by 1/sqrt(fan-in)
    of the channels). Few species: one matrix product over species x channels. Many: one matrix
    product per species that is present. `as_op` as in `Linear`.
    """

    __constants__ = ["as_op"]

    def __init__(self, irreps_in: Irreps, irreps_out: Irreps, num_species: int):
        super().__init__()
        self.as_op = False
        self.blocks = _shared_blocks(irreps_in, irreps_out)
        self.op_blocks, self.out_dim = _op_blocks(self.blocks), irreps_out.dim
        self.num_species = num_species
        self.dense: bool = num_species <= DENSE_SPECIES
        parts = [
            torch.randn(num_species * i * o, dtype=torch.float64) / math.sqrt(i)
            for *_, i, o in self.blocks
        ]
        self.weight = torch.nn.Parameter(torch.cat(parts))

    def forward(
        self, x: torch.Tensor, species: torch.Tensor, one_hot: torch.Tensor
    ) -> torch.Tensor:
        """`species` [N]; `one_hot` [N, num_species] in the dtype of `x`, not read by the op."""
        if self.as_op:  # noqa: SIM102
            if not x.is_cuda:
                return torch.ops.tpcalc.linear(
                    x, self.weight, species, self.op_blocks, self.num_species, self.out_dim, 1.0,
                    False, None,
                )  # fmt: skip
        if not self.dense:
            return self._grouped(x, species)
        return self._dense(x, one_hot)

    def _dense(self, x: torch.Tensor, one_hot: torch.Tensor) -> torch.Tensor:
        """One product over species x channels for each irrep."""
        n, s = x.shape[0], self.num_species
        parts: list[torch.Tensor] = []
        offset = 0
        for start, dim, mul_in, mul_out in self.blocks:
            w = self.weight[offset : offset + s * mul_in * mul_out].view(s * mul_in, mul_out)
            offset += s * mul_in * mul_out
            block = x[:, start : start + dim * mul_in].reshape(n, dim, 1, mul_in)
            block = block * one_hot.view(n, 1, s, 1)  # [N, dim, species, mul_in]
            parts.append(block.reshape(n * dim, s * mul_in).matmul(w).view(n, dim * mul_out))
        return torch.cat(parts, 1) if len(parts) > 1 else parts[0]

    def _grouped(self, x: torch.Tensor, species: torch.Tensor) -> torch.Tensor:
        """The same with atoms sorted by species: [N, in], [N] -> [N, out]."""
        order = torch.argsort(species)
        ordered = x.index_select(0, order)
        counts: list[int] = torch.bincount(species, minlength=self.num_species).tolist()
        parts: list[torch.Tensor] = []
        offset = 0
        for start, dim, mul_in, mul_out in self.blocks:
            size = mul_in * mul_out
            rows: list[torch.Tensor] = []
            first = 0
            for index, count in enumerate(counts):
                if count > 0:
                    w = self.weight[offset + index * size : offset + (index + 1) * size]
                    block = ordered[first : first + count, start : start + dim * mul_in]
                    block = block.reshape(count * dim, mul_in).matmul(w.view(mul_in, mul_out))
                    rows.append(block.view(count, dim * mul_out))
                    first += count
            offset += self.num_species * size
            parts.append(torch.cat(rows, 0) if len(rows) > 0 else x.new_zeros(0, dim * mul_out))
        return torch.cat(parts, 1).index_select(0, torch.argsort(order))

    @torch.jit.unused
    def keep_species(self, index: torch.Tensor) -> None:
        """See `Potential.of_species`."""
        sizes = [self.num_species * i * o for *_, i, o in self.blocks]
        blocks = [b.view(self.num_species, -1) for b in torch.split(self.weight.data, sizes)]
        self.weight.data = torch.cat([b.index_select(0, index).flatten() for b in blocks])
        self.num_species = len(index)
        self.dense = self.num_species <= DENSE_SPECIES

    def each_species(self, x: torch.Tensor) -> torch.Tensor:
        """Row s of `x` [num_species, in] by the matrix of species s: [num_species, out]."""
        s = self.num_species
        if self.dense:
            return self._dense(x, torch.eye(s, dtype=x.dtype, device=x.device))
        parts: list[torch.Tensor] = []
        offset = 0
        for start, dim, mul_in, mul_out in self.blocks:
            w = self.weight[offset : offset + s * mul_in * mul_out].view(s, mul_in, mul_out)
            offset += s * mul_in * mul_out
            block = x[:, start : start + dim * mul_in].reshape(s, dim, mul_in)
            parts.append(block.bmm(w).reshape(s, dim * mul_out))
        return torch.cat(parts, 1)


class CommonLinear(torch.nn.Module):
    """A self-connection with one matrix per irrep for all species: [N, in] -> [N, out]."""

    def __init__(self, irreps_in: Irreps, irreps_out: Irreps):
        super().__init__()
        self.linear = Linear(irreps_in, irreps_out)

    def forward(
        self, x: torch.Tensor, species: torch.Tensor, one_hot: torch.Tensor
    ) -> torch.Tensor:
        """`species` and `one_hot` are what `SpeciesLinear` needs; they are not read."""
        return self.linear(x)

    def each_species(self, x: torch.Tensor) -> torch.Tensor:
        """As `SpeciesLinear.each_species`."""
        return self.linear(x)


class SameConnection(torch.nn.Module):
    """Hands on what it gets, where splines have the self-connection in them: [N, in] -> [N, in]."""

    def forward(
        self, x: torch.Tensor, species: torch.Tensor, one_hot: torch.Tensor
    ) -> torch.Tensor:
        """As `SpeciesLinear.forward`."""
        return x


class NoConnection(torch.nn.Module):
    """No self-connection: a layer's features come from neighbours alone, [N, in] -> [N, 0]."""

    def forward(
        self, x: torch.Tensor, species: torch.Tensor, one_hot: torch.Tensor
    ) -> torch.Tensor:
        """As `SpeciesLinear.forward`, without columns."""
        return x[:, :0]

    def each_species(self, x: torch.Tensor) -> torch.Tensor:
        """As `SpeciesLinear.each_species`, without columns."""
        return x[:, :0]
