"""Potentials with cubic B-splines in place of their radial networks, for inference."""

from __future__ import annotations

import copy

import torch

from tpcalc.errors import InputError
from tpcalc.kernels.ops import use_ops
from tpcalc.nn.double import EdgeLengths
from tpcalc.nn.mace_splines import SplinedRadial, spline_mace
from tpcalc.nn.radial import BesselBasis
from tpcalc.nn.spline_table import SplineTable, fit_splines


class PieceOfLengths(torch.nn.Module):
    """Lengths, and the number of the spline, before or from a break on."""

    def __init__(self, break_at: float):
        super().__init__()
        self.lengths, self.break_at = EdgeLengths(), break_at

    def of_edges(self, edge_vectors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """[E, 3] -> lengths and numbers [E, 2] in the same dtype, lengths [E] float64."""
        feature, lengths = self.lengths.of_edges(edge_vectors)
        piece = (lengths >= self.break_at).to(feature.dtype).unsqueeze(1)
        return torch.cat([feature, piece], 1), lengths


def spline_radials(potential: torch.nn.Module, tolerance: float = 1e-6) -> torch.nn.Module:
    """A copy of a potential whose radial networks are splines inside the convolutions.

    Path weights are then never stored, and forces stay exact derivatives of the (splined)
    energy. Where path weights depend on the species of both atoms there is a table for each pair:
    take `Potential.of_species` first. The copy has `spline_error`, `spline_slope_error` (largest of
    its layers, relative) and `spline_intervals`. It is for inference: nothing in it can be trained
    or swapped.

    Raises:
        InputError: convolutions that are no fused ones, radial functions that splines cannot
            follow, or tables of too many pairs of species.
    """
    check_splinable(potential)
    made = copy.deepcopy(potential).eval().requires_grad_(False)
    if type(made.model.radial_basis) is BesselBasis:
        tables = _spline_nequip(made, tolerance)
    else:
        tables = spline_mace(made, tolerance)
    made.spline_error = max(t.error for t in tables)
    made.spline_slope_error = max(t.slope_error for t in tables)
    made.spline_intervals = max(t.coef.shape[-2] - 3 for t in tables)
    return made


def check_splinable(potential: torch.nn.Module) -> None:
    """Raises:
    InputError: a convolution that cannot take splines.
    """
    for layer in potential.model.layers:
        if not hasattr(layer.conv, "splined"):
            raise InputError(
                f"radial splines need a fused variant, not {potential.variant!r}; swap to "
                f"{potential.variant.split('/')[0]}/fused first"
            )


def sees_species(potential: torch.nn.Module) -> bool:
    """Whether splines need a table for each pair of species."""
    return type(potential.model.radial_basis) is not BesselBasis


def _spline_nequip(potential: torch.nn.Module, tolerance: float) -> list[SplineTable]:
    """Radial functions of the distance alone: one table a layer, in place."""
    model, tables = potential.model, []
    basis = copy.deepcopy(model.radial_basis).double()
    break_at = basis.cutoff.break_at
    pieces = None if break_at is None else torch.arange(2)
    for layer in model.layers:
        network, conv = copy.deepcopy(layer.radial).double(), layer.conv

        def weights(r: torch.Tensor, network=network, conv=conv) -> torch.Tensor:
            return conv.tensor_product.op_weights(network(basis(r)))

        table = fit_splines(weights, potential.cutoff, tolerance, break_at=break_at)
        layer.conv = conv.splined(table.coef, table.step, pieces).to(potential.dtype)
        layer.radial = SplinedRadial()
        tables.append(table)
    # splines need nothing else
    model.radial_basis = EdgeLengths() if break_at is None else PieceOfLengths(break_at)
    use_ops(model.radial_basis, True)
    return tables
