"""Products whose path weights are factored: one weight per label of each operand."""

from __future__ import annotations

from typing import NamedTuple

import torch
from e3nn.o3 import Irreps, wigner_3j

from tpcalc.errors import InputError
from tpcalc.tensor_products.base import TensorProduct
from tpcalc.tensor_products.paths import as_irreps, enumerate_paths


class Label(NamedTuple):
    """One way an entry of the irreps takes part; each label has its own weight."""

    entry: int
    l: int  # degree of the entry
    p: int  # its parity
    tag: str | int  # what tells apart the labels of one entry


class FactoredProduct(TensorProduct):
    """z_c = w3_c sum_ab K_abc C^{l1 l2 l3} (w1_a x_a) (w2_b y_b), summed over labels a, b, c.

    A function names its labels (`labels`) and the numbers K (`coefficient`); C is wigner_3j.
    This dense form is the reference; an algorithm replaces `_make_tables` and
    `weighted_product`. Weight columns, per term: labels of in1, in2, out, each x channels.
    """

    options = ("terms",)

    def __init__(self, irreps_in1, irreps_in2, irreps_out=None, terms: int = 1):
        super().__init__(irreps_in1, irreps_in2)
        if not isinstance(terms, int) or terms < 1:
            raise InputError(f"terms={terms!r}; a whole number >= 1 is needed")
        irreps_out = None if irreps_out is None else as_irreps(irreps_out)
        self.paths, self.irreps_out = enumerate_paths(
            self.irreps_in1, self.irreps_in2, irreps_out, merge=True
        )
        self.mul = self.paths[0].mul
        self.terms = terms
        self.uvu = self.channel_mode == "uvu"
        self.labels_of_operands = [self.labels(n) for n in range(3)]
        self.sizes = [len(labels) for labels in self.labels_of_operands]
        self.weight_numel = terms * sum(self.sizes) * self.mul
        self.d1 = sum(ir.dim for _, ir in self.irreps_in1)
        self.d2 = sum(ir.dim for _, ir in self.irreps_in2)
        self.d3 = sum(ir.dim for _, ir in self.irreps_out)
        for n, irreps in enumerate((self.irreps_in1, self.irreps_in2, self.irreps_out)):
            component, label = _columns(irreps, self.labels_of_operands[n])
            self.register_buffer(f"component{n + 1}", component, persistent=False)
            self.register_buffer(f"label{n + 1}", label, persistent=False)
        self._make_tables()

    @torch.jit.unused
    def labels(self, operand: int) -> list[Label]:
        """Labels of operand 0, 1 or (output) 2, in order of the entries."""
        raise NotImplementedError

    @torch.jit.unused
    def coefficient(self, a: Label, b: Label, c: Label) -> float:
        """K for three labels; asked only where the degrees and parities allow a path."""
        raise NotImplementedError

    @torch.jit.unused
    def entries(self, operand: int) -> Irreps:
        """Irreps of operand 0, 1 or (output) 2."""
        return (self.irreps_in1, self.irreps_in2, self.irreps_out)[operand]

    @torch.jit.unused
    def _make_tables(self) -> None:
        sizes = [sum(2 * a.l + 1 for a in labels) for labels in self.labels_of_operands]
        dense = torch.zeros(sizes, dtype=torch.float64)
        for i, a in _starts(self.labels_of_operands[0]):
            for j, b in _starts(self.labels_of_operands[1]):
                for k, c in _starts(self.labels_of_operands[2]):
                    if a.p * b.p != c.p or not abs(a.l - b.l) <= c.l <= a.l + b.l:
                        continue
                    factor = self.coefficient(a, b, c)
                    if factor != 0:
                        block = wigner_3j(a.l, b.l, c.l, dtype=torch.float64) * factor
                        dense[
                            i : i + 2 * a.l + 1, j : j + 2 * b.l + 1, k : k + 2 * c.l + 1
                        ] = block  # fmt: skip
        self.register_buffer("coupling", dense, persistent=False)

    def weighted_product(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """[..., components of labels of in1, mul] x in2 -> components of labels of out."""
        return torch.einsum("...iu,...ju,ijk->...ku", x, y, self.coupling.to(x.dtype))

    def forward(self, x: torch.Tensor, y: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        mul = self.mul
        x = x.unflatten(-1, [self.d1, mul]).index_select(-2, self.component1)
        y = y.unflatten(-1, [self.d2, 1 if self.uvu else mul]).index_select(-2, self.component2)
        w = w.unflatten(-1, [self.terms, sum(self.sizes), mul])
        n1, n2 = self.sizes[0], self.sizes[0] + self.sizes[1]
        parts: list[torch.Tensor] = []
        for t in range(self.terms):
            wt = w[..., t, :, :]
            w1 = wt[..., :n1, :].index_select(-2, self.label1)
            w2 = wt[..., n1:n2, :].index_select(-2, self.label2)
            w3 = wt[..., n2:, :].index_select(-2, self.label3)
            parts.append(self.weighted_product(x * w1, y * w2) * w3)
        z = parts[0] if len(parts) == 1 else torch.stack(parts).sum(0)
        shape = list(z.shape)
        shape[-2] = self.d3
        out = torch.zeros(shape, dtype=z.dtype, device=z.device)
        return out.index_add(-2, self.component3, z).flatten(-2)


def _starts(labels: list[Label]):
    """(first component, label) of each label."""
    start = 0
    for label in labels:
        yield start, label
        start += 2 * label.l + 1


def _columns(irreps: Irreps, labels: list[Label]) -> tuple[torch.Tensor, torch.Tensor]:
    """Component of the operand and label, for each component of each label."""
    first = [sum(ir.dim for _, ir in irreps[:n]) for n in range(len(irreps))]
    component = [first[a.entry] + torch.arange(2 * a.l + 1) for a in labels]
    label = [torch.full((2 * a.l + 1,), n) for n, a in enumerate(labels)]
    return torch.cat(component), torch.cat(label)


def mask(labels: list[Label], keep) -> torch.Tensor:
    """1 for the components of the labels for which `keep(label)` holds, float64."""
    parts = [torch.full((2 * a.l + 1,), float(keep(a)), dtype=torch.float64) for a in labels]
    return torch.cat(parts)
