"""MACE with radial splines: path weights, and densities, by the species of both atoms.

The first convolution meets features of the species alone, so the linear maps around it are
functions of the distance too: its tables hold their product, and no map is left to do.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterable

import torch

from tpcalc.errors import InputError
from tpcalc.nn.linear import SameConnection, each_block
from tpcalc.nn.spline_table import SplineTable, fit_splines

MOST_BYTES = 2 * 2**30  # of one layer's tables, float64


class PairLengths(torch.nn.Module):
    """The length of each edge and the number of its pair of species: [E, 2].

    The pair is receiver * species + sender; a float, so that both travel in one tensor.
    """

    def __init__(self, num_species: int):
        super().__init__()
        self.num_species = num_species

    def forward(self, edge_lengths: torch.Tensor, z_senders: torch.Tensor,
                z_receivers: torch.Tensor) -> torch.Tensor:  # fmt: skip
        pair = z_receivers * self.num_species + z_senders
        return torch.stack([edge_lengths, pair.to(edge_lengths.dtype)], 1)


class SplinedRadial(torch.nn.Module):
    """In the place of a radial network: hands `PairLengths` on to the convolution."""

    def forward(self, edge_feats: torch.Tensor, unused: torch.Tensor | None) -> torch.Tensor:
        return edge_feats


class Ones(torch.nn.Module):
    """Where splines have the senders' features in them: ones."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.ones_like(x)


class SplinedDensity(torch.nn.Module):
    """`Density` from splines: `PairLengths` [E, 2] -> [E, 1]."""

    def __init__(self, table: SplineTable, kind_of_pair: torch.Tensor):
        super().__init__()
        self.step = table.step
        self.register_buffer("table", table.coef, persistent=False)
        self.register_buffer("kind_of_pair", kind_of_pair, persistent=False)

    def forward(self, edge_feats: torch.Tensor, unused: torch.Tensor | None) -> torch.Tensor:
        kinds = self.kind_of_pair.index_select(0, edge_feats[:, 1].long())
        return torch.ops.tpcalc.radial_table(
            edge_feats[:, 0], kinds, self.table.to(edge_feats.dtype), self.step, 0
        )


def spline_mace(potential: torch.nn.Module, tolerance: float) -> list[SplineTable]:
    """Put splines into `potential`, a MACE model with fused convolutions; the tables.

    Raises:
        InputError: see `spline_radials`.
    """
    model, dtype = potential.model, potential.dtype
    exact = copy.deepcopy(model).double()
    species = range(len(potential.species))
    ordered = [(i, j) for i in species for j in species]
    # the distance transform is symmetric in the two atoms
    unordered = [(i, j) for i, j in ordered if i <= j] if model.transformed else [(0, 0)]
    kind_of_pair = [unordered.index((min(p), max(p))) if model.transformed else 0 for p in ordered]
    kind_of_pair = torch.tensor(kind_of_pair)
    tables = []
    for n, (layer, own) in enumerate(zip(model.layers, exact.layers)):
        folds = n == 0 and can_fold(own)
        pairs = ordered if folds else unordered
        table = _fit_pairs(potential, _path_weights(exact, own, folds), pairs, tolerance)
        kinds = torch.arange(len(ordered)) if folds else kind_of_pair
        layer.conv = layer.conv.splined(table.coef, table.step, kinds).to(dtype)
        layer.radial = SplinedRadial()
        tables.append(table)
        if layer.by_density:
            table = _fit_pairs(potential, _densities(exact, own), unordered, tolerance)
            layer.density = SplinedDensity(table, kind_of_pair).to(dtype)
            tables.append(table)
        if folds:
            layer.linear_up, layer.linear_down, layer.norm = Ones(), torch.nn.Identity(), 1.0
            if not layer.residual:
                layer.self_connection = SameConnection()
    model.splined, model.pair_lengths = True, PairLengths(len(species))
    return tables


def _fit_pairs(potential, function: Callable, pairs: list, tolerance: float) -> SplineTable:
    """Splines of `function(r, receiver, sender)` for every pair, stacked; one number of intervals.

    Raises:
        InputError: the tables would be too large.
    """
    tables: list[SplineTable | None] = [None] * len(pairs)
    intervals = 64
    while any(t is None or len(t.coef) - 3 != intervals for t in tables):
        for k, (receiver, sender) in enumerate(pairs):
            if tables[k] is not None and len(tables[k].coef) - 3 == intervals:
                continue
            of_pair = functools.partial(function, receiver=receiver, sender=sender)
            tables[k] = fit_splines(of_pair, potential.cutoff, tolerance, intervals)
            intervals = len(tables[k].coef) - 3
            _check_size(len(pairs) * tables[k].coef.numel() * 8, len(pairs), potential)
    return SplineTable(
        torch.stack([t.coef for t in tables]), tables[0].step,
        max(t.error for t in tables), max(t.slope_error for t in tables),
    )  # fmt: skip


def _check_size(size: int, pairs: int, potential) -> None:
    if size > MOST_BYTES:
        raise InputError(
            f"radial splines of {pairs} pairs of {len(potential.species)} species need "
            f"{size / 2**30:.1f} GiB, at most {MOST_BYTES / 2**30:.0f} are made; keep the elements "
            "that you use (tpcalc export --elements Si O, Potential.of_species) or the network "
            "(--radial network)"
        )


def _features(model, r: torch.Tensor, receiver: int, sender: int):
    """What `Mace.edge_features` gives for lengths `r` of one pair of species."""
    ends = [torch.full((len(r),), z, dtype=torch.long) for z in (sender, receiver)]
    return model.edge_features(r, *ends)


def _path_weights(model, layer, folds: bool) -> Callable:
    def function(r: torch.Tensor, receiver: int, sender: int) -> torch.Tensor:
        weights = layer.radial(*_features(model, r, receiver, sender))
        weights = layer.conv.tensor_product.op_weights(weights)
        return folded(model, layer, weights, receiver, sender) if folds else weights

    return function


def _densities(model, layer) -> Callable:
    return lambda r, receiver, sender: layer.density(*_features(model, r, receiver, sender))


def _scalar_paths(layer) -> Iterable[tuple[int, int, int, int]]:
    """(features column, weights column, output column, channels) of each path."""
    for _, _, mul, h, _, w, out, *_ in layer.conv.tensor_product.op_paths.tolist():
        yield h, w, out, mul


def can_fold(layer) -> bool:
    """Whether the first convolution's paths go from scalars to one output block each.

    A linear map of the channels of such a block is one of the path weights.
    """
    irreps_in, out = layer.conv.irreps_node, layer.conv.irreps_out
    starts = sorted(start for _, _, start, _ in _scalar_paths(layer))
    return (
        len(irreps_in) == 1
        and irreps_in[0].ir.l == 0
        and out == layer.product.irreps_in
        and starts == sorted(s.start for s in out.slices())
        and all(mul == out[0].mul for *_, mul in _scalar_paths(layer))
    )


def folded(model, layer, weights: torch.Tensor, receiver: int, sender: int) -> torch.Tensor:
    """Path weights [n, *] of a first layer, with the linear maps before and behind in them."""
    up = layer.linear_up(model.embedding)[sender]
    down = dict(each_block(layer.linear_down))
    connection = {} if layer.residual else dict(each_block(layer.self_connection))
    made = torch.zeros_like(weights)
    for h, w, out, mul in _scalar_paths(layer):
        part = (weights[:, w : w + mul] * up[h : h + mul]) @ down[out]
        if not layer.residual:
            part = part @ connection[out].view(-1, mul, mul)[receiver]
        made[:, w : w + mul] = part if layer.by_density else part * layer.norm
    return made
