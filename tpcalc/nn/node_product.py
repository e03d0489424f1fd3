"""Feature interaction: the features of a node multiplied with each other."""

from __future__ import annotations

import torch
from e3nn.o3 import Irreps

from tpcalc.nn.linear import Linear
from tpcalc.tensor_products.base import TensorProduct


class NodeProduct(torch.nn.Module):
    """x + L3((L1 x) (x) (L2 x)): [N, irreps] -> [N, irreps], any node by itself.

    L1, L2, L3 mix channels within each irrep, (x) is a tensor product of one multiplicity with
    one weight set for all nodes. Irreps of x that the product cannot make pass unchanged.
    Algorithms of the product are exchanged by assigning `product`; no weight changes. Source:
    Luo et al. 2024 (equivariant feature interaction), with a residual connection.

    Args:
        irreps: of the node features.
        product: operands `operand_irreps(irreps, channels)`, outputs among the irreps of x.
    """

    def __init__(self, irreps: Irreps, product: TensorProduct):
        super().__init__()
        self.linear1 = Linear(irreps, product.irreps_in1)
        self.linear2 = Linear(irreps, product.irreps_in2)
        self.product = product
        self.weight = torch.nn.Parameter(torch.randn(product.weight_numel, dtype=torch.float64))
        made = [ir for _, ir in product.irreps_out]
        kept = Irreps([(mul, ir) for mul, ir in irreps if ir in made])
        self.linear_out = Linear(product.irreps_out, kept)
        columns = [torch.arange(s.start, s.stop) for (_, ir), s in zip(irreps, irreps.slices())
                   if ir in made]  # fmt: skip
        self.register_buffer("columns", torch.cat(columns), persistent=False)
        self.complete: bool = len(kept) == len(irreps)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        added = self.linear_out(self.product(self.linear1(x), self.linear2(x), self.weight))
        if self.complete:
            return x + added
        return x.index_add(1, self.columns, added)


def operand_irreps(irreps: Irreps, channels: int) -> Irreps:
    """The irreps of x with one multiplicity, sorted as products list them."""
    return Irreps([(channels, ir) for _, ir in irreps]).sort().irreps.simplify()
