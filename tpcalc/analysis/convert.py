"""Weights of one function as weights of another, each with the error measured afterwards."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from e3nn.o3 import Irrep

from tpcalc.errors import InputError
from tpcalc.o3.gaunt import three_j_000
from tpcalc.tensor_products import tensor_product
from tpcalc.tensor_products.base import TensorProduct


class Conversion(NamedTuple):
    """Converted weights and the relative Frobenius error of the map they give."""

    product: TensorProduct
    weights: torch.Tensor  # [..., product.weight_numel]
    error: float


# source -> targets
KNOWN = {"gaunt": ("cg",), "shared": ("cg", "shared/cp"), "cg": ("gaunt",)}


def convert(source: TensorProduct, weights: torch.Tensor, target: str, terms: int = 1,
            rank: int | None = None) -> Conversion:  # fmt: skip
    """Weights [..., source.weight_numel] of `source` for the function `target`.

    gaunt -> cg and shared -> cg are exact; cg -> gaunt (with `terms`) is a fit, exact where the
    terms suffice and no odd path has weight; shared -> shared/cp keeps the weights and changes
    the tensor to `rank`. The map compared is summed over paths: where cg keeps the paths into
    one output apart, what follows must add them with equal weight.

    Raises:
        InputError: there is no such conversion.
    """
    if target not in KNOWN.get(source.function, ()):
        known = "; ".join(f"{a} -> {', '.join(b)}" for a, b in KNOWN.items())
        raise InputError(f"no conversion {source.function} -> {target}; known: {known}")
    lists = (source.irreps_in1, source.irreps_in2, source.irreps_out)
    weights = weights.double()
    if target == "shared/cp":
        made = tensor_product("shared/cp", *lists, rank=rank)
        found = weights
    elif target == "gaunt":
        made = tensor_product("gaunt/grid", *lists, terms=terms)
        found = _fit_gaunt(source, weights, made)
    else:
        made = tensor_product("cg/sparse", *lists)
        found = _shared_to_cg(source, weights, made) if source.function == "shared" else (
            _gaunt_to_cg(source, weights, made)
        )  # fmt: skip
    return Conversion(made, found, map_error(source, weights, made, found))


def map_error(source: TensorProduct, w1: torch.Tensor, made: TensorProduct, w2: torch.Tensor,
              samples: int = 8) -> float:  # fmt: skip
    """Relative difference of two products over up to `samples` rows of weights, paths summed."""
    one = w1.reshape(-1, source.weight_numel)[:samples]
    two = w2.reshape(-1, made.weight_numel)[:samples]
    gap, size = 0.0, 0.0
    for a, b in zip(one, two):
        want, found = summed_paths(source, a), summed_paths(made, b)
        for ir, block in want.items():  # an output the target cannot make is missed whole
            gap += float((block - found.get(ir, torch.zeros_like(block))).square().sum())
            size += float(block.square().sum())
    return math.sqrt(gap / size) if size else math.sqrt(gap)


def summed_paths(product: TensorProduct, w: torch.Tensor) -> dict[Irrep, torch.Tensor]:
    """`materialize`, all paths into one output added up: irrep -> [in1, in2, C (2l+1)]."""
    dense = product.materialize(w)
    counts = {out: 0 for out in range(len(product.irreps_out))}
    for path in product.paths:
        counts[path.out] += 1
    blocks = {}
    for n, ((mul, ir), s) in enumerate(zip(product.irreps_out, product.irreps_out.slices())):
        groups = counts[n] if mul != product.paths[0].mul else 1
        blocks[ir] = dense[..., s].unflatten(-1, [groups, mul // groups * ir.dim]).sum(-2)
    return blocks


def _gaunt_factor(path) -> float:
    """What a unit gaunt path is in units of the cg path: Gaunt / sqrt(2 l3 + 1)."""
    scale = (2 * path.l1 + 1) * (2 * path.l2 + 1) / (4 * math.pi)
    return math.sqrt(scale) * three_j_000(path.l1, path.l2, path.l3)


def _gaunt_to_cg(source, weights, made) -> torch.Tensor:
    """w_p = w1 w2 w3 G / sqrt(2 l3 + 1), summed over terms; zero for odd paths."""
    n1, n2 = source.sizes[0], source.sizes[0] + source.sizes[1]
    w = weights.unflatten(-1, [source.terms, sum(source.sizes), source.mul])
    columns = []
    for path in made.paths:
        product = w[..., path.in1, :] * w[..., n1 + path.in2, :] * w[..., n2 + path.out, :]
        columns.append(product.sum(-2) * _gaunt_factor(path))
    return torch.cat(columns, -1)


def _shared_to_cg(source, weights, made) -> torch.Tensor:
    """Every path takes the weight of its channel."""
    return torch.cat([weights] * len(made.paths), -1)


def _fit_gaunt(source, weights, made) -> torch.Tensor:
    """Levenberg-Marquardt from several starts, all rows and channels at once."""
    mul, terms, sizes = made.mul, made.terms, made.sizes
    rows = weights.reshape(-1, len(source.paths), mul)  # [rows, paths, C]
    even = [n for n, p in enumerate(source.paths) if (p.l1 + p.l2 + p.l3) % 2 == 0]
    if not even:
        raise InputError("these weights have odd paths alone, which gaunt does not hold")
    factor = torch.tensor([_gaunt_factor(source.paths[n]) for n in even], dtype=torch.float64)
    goal = (rows[:, even] / factor[:, None]).transpose(1, 2).flatten(0, 1)  # [rows C, paths]
    first = (0, sizes[0], sizes[0] + sizes[1])
    outs = [ir for _, ir in made.irreps_out]  # odd paths may have made more
    paths = [source.paths[n] for n in even]
    entries = [(p.in1, p.in2, outs.index(source.irreps_out[p.out].ir)) for p in paths]
    index = [torch.tensor([first[k] + entry[k] for entry in entries]) for k in range(3)]
    generator = torch.Generator().manual_seed(0)
    best = torch.full((len(goal),), float("inf"), dtype=torch.float64)
    kept = torch.zeros(len(goal), terms, sum(sizes), dtype=torch.float64)
    for _ in range(12):
        start = torch.randn(kept.shape, generator=generator, dtype=torch.float64)
        found, error = _levenberg(goal, start, index, factor)
        better = error < best
        kept[better], best[better] = found[better], error[better]
        if float(best.max()) < 1e-24 * float(goal.square().sum(1).max()):
            break
    kept = kept.view(*rows.shape[:1], mul, terms, sum(sizes)).permute(0, 2, 3, 1)
    return kept.reshape(*weights.shape[:-1], made.weight_numel)


def _levenberg(goal, theta, index, factor, steps: int = 150):
    """min sum_p (factor_p (sum_t a_tp b_tp c_tp - goal_p))^2 for each row: parameters, error."""
    size = theta.shape[2]
    hot = [torch.nn.functional.one_hot(i, size).double() for i in index]  # [paths, size]

    def residual(theta):
        a, b, c = (theta[..., i] for i in index)  # [rows, terms, paths]
        value = factor * ((a * b * c).sum(1) - goal)
        parts = (b * c, a * c, a * b)
        jacobian = sum(torch.einsum("rtp,ps->rpts", d, h) for d, h in zip(parts, hot))
        return value, factor[:, None] * jacobian.flatten(2)

    value, jacobian = residual(theta)
    error = value.square().sum(1)
    ridge = torch.full_like(error, 1e-1)
    eye = torch.eye(theta.shape[1] * size, dtype=torch.float64)
    for _ in range(steps):
        gram = jacobian.mT @ jacobian + ridge[:, None, None] * eye
        step = torch.linalg.solve(gram, (jacobian.mT @ value[:, :, None]).squeeze(2))
        trial = theta - step.view_as(theta)
        new_value, new_jacobian = residual(trial)
        new_error = new_value.square().sum(1)
        good = new_error < error
        theta = torch.where(good[:, None, None], trial, theta)
        value = torch.where(good[:, None], new_value, value)
        jacobian = torch.where(good[:, None, None], new_jacobian, jacobian)
        error = torch.where(good, new_error, error)
        ridge = torch.where(good, ridge / 4, ridge * 4).clamp(1e-14, 1e12)
    return theta, error
