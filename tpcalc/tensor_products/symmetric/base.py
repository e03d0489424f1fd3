"""The contract of many-body products: symmetric powers of the features of one node."""

from __future__ import annotations

import torch
from e3nn.o3 import Irreps

from tpcalc.errors import InputError
from tpcalc.tensor_products.paths import as_irreps


class ManyBody(torch.nn.Module):
    """Powers 1..correlation of node features, contracted to irreps, channel by channel.

    `forward(node_feats[N, in], species[N] int64) -> [N, out]`, ir_mul order. The weights belong
    to the module, one set a species; algorithms of one function have the same parameters.
    `irreps_out` names the irreps to keep (None: those of the input); every one gets the
    channels of the input.

    Raises:
        InputError: multiplicities differ, an irrep occurs twice, or a number is below 1.
    """

    function = ""
    exact = True
    parity = "O(3)"
    devices = ("cpu", "cuda")
    options = ()
    places = ("many-body",)

    @classmethod
    def available(cls) -> bool:
        """Whether this algorithm can run on this machine; compiled ones override it."""
        return True

    def __init__(self, irreps_in: str | Irreps, irreps_out: str | Irreps | None = None,
                 correlation: int = 3, num_species: int = 1):  # fmt: skip
        super().__init__()
        self.irreps_in = as_irreps(irreps_in)
        muls = {mul for mul, _ in self.irreps_in}
        if len(muls) != 1:
            raise InputError(
                f"{self.irreps_in} has different multiplicities; a many-body product needs one"
            )
        self.mul = muls.pop()
        kept = self.irreps_in if irreps_out is None else as_irreps(irreps_out)
        self.irreps_out = Irreps([(self.mul, ir) for _, ir in kept])
        for irreps in (self.irreps_in, self.irreps_out):
            if len({ir for _, ir in irreps}) != len(irreps):
                raise InputError(f"an irrep occurs twice in {irreps}; write it once")
        for name, value in (("correlation", correlation), ("num_species", num_species)):
            if not isinstance(value, int) or value < 1:
                raise InputError(f"{name}={value!r}; a whole number >= 1 is needed")
        self.correlation = correlation
        self.num_species = num_species
        self.d_in = sum(ir.dim for _, ir in self.irreps_in)
        self.d_out = sum(ir.dim for _, ir in self.irreps_out)

    @torch.jit.unused
    def fold(self) -> None:
        """Compute once what depends on weights alone, for inference; nothing by default."""


def fold_products(module: torch.nn.Module) -> None:
    """`fold()` every many-body product in `module`."""
    for part in module.modules():
        if isinstance(part, ManyBody):
            part.fold()
