"""Nequix (.nqx): one JSON line, then arrays in numpy's format. Read as data, nothing executed.

Source: Koker et al. 2025 (Nequix), github.com/atomicarchitects/nequix, models/*.nqx, MIT.
"""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import torch
from ase.data import chemical_symbols

from tpcalc.errors import InputError
from tpcalc.importers.folding import linear_weight, set_parameter, set_radial
from tpcalc.nn.radial import SILU_NORM
from tpcalc.potential import Potential, build_potential

LICENCE = "MIT (atomicarchitects/nequix; the licence of its repository)"
CITATION = "T. Koker, M. Kotak, T. Smidt, Nequix, arXiv:2508.16067 (2025)"
# e3nn-jax scales SiLU by 1/sqrt(mean silu(x)^2) over 1,000,001 normal quantiles (ours: 1.676532)
JAX_SILU_NORM = 1.6765620560798837
MAX_LINE = 2**20
NEEDED = (
    "atomic_numbers", "atom_energies", "cutoff", "hidden_irreps", "lmax", "n_layers",
    "radial_basis_size", "radial_mlp_size", "radial_mlp_layers", "radial_polynomial_p",
    "avg_n_neighbors", "scale", "shift", "layer_norm", "index_weights",
)  # fmt: skip


def read_nqx(path: str | Path) -> tuple[dict, list[np.ndarray]]:
    """The JSON line and the weight arrays, in file order.

    Raises:
        InputError: not such a file, or cut short.
    """
    raw = Path(path).read_bytes()
    line, _, rest = raw.partition(b"\n")
    try:
        config = json.loads(line[:MAX_LINE])
    except ValueError as error:
        raise InputError(f"{path} does not begin with a JSON line; is it a .nqx file?") from error
    missing = [key for key in NEEDED if key not in config]
    if missing:
        raise InputError(f"{path}: its first line lacks {', '.join(missing)}")
    # newer files append scalars after the weights; only the weights are read
    count = 1 + _layer_arrays(config) + 1
    stream, arrays = io.BytesIO(rest), []
    for n in range(count):
        try:
            arrays.append(np.load(stream, allow_pickle=False))
        except (ValueError, EOFError, OSError) as error:
            raise InputError(f"{path} holds {n} of {count} arrays; fetch it again") from error
    return config, arrays


def _layer_arrays(config: dict) -> int:
    """Arrays of all layers: radial matrices, then a block per irrep of three linear maps, norms."""
    total, degrees = 0, len(config["hidden_irreps"].split("+"))
    for n in range(config["n_layers"]):
        d_in = 1 if n == 0 else degrees
        d_out = 1 if n == config["n_layers"] - 1 else degrees
        skip = min(d_in, d_out)
        total += config["radial_mlp_layers"] + 1 + d_in + d_out + skip
        total += d_out if config["layer_norm"] else 0
    return total


def convert(config: dict, arrays: list[np.ndarray], variant: str = "cg/reference") -> Potential:
    """Our potential with the weights of a Nequix model, float64.

    Raises:
        InputError: something that cannot be carried, by name, or sizes that do not fit.
    """
    if config["index_weights"]:
        raise InputError("index_weights (a skip connection per species) is not read from .nqx yet")
    numbers = [int(z) for z in config["atomic_numbers"]]
    species = [chemical_symbols[z] for z in numbers]
    description = {
        "architecture": "nequip", "function": "cg", "species": species,
        "cutoff": float(config["cutoff"]), "scale": float(config["scale"]),
        "hidden_irreps": config["hidden_irreps"], "lmax": config["lmax"],
        "num_layers": config["n_layers"], "num_basis": config["radial_basis_size"],
        "radial_hidden": [config["radial_mlp_size"]] * config["radial_mlp_layers"],
        "cutoff_p": float(config["radial_polynomial_p"]),
        "avg_num_neighbors": float(config["avg_n_neighbors"]), "readout_hidden": 0,
        "embedding_channels": len(species), "self_connection": "common",
        "normalization": "rms" if config["layer_norm"] else "none",
    }  # fmt: skip
    potential = build_potential(description, variant)
    tensors = [torch.from_numpy(np.array(a, dtype=np.float64)) for a in arrays]
    energies = _fill(potential, tensors)
    with torch.no_grad():  # our energies are relative to the isolated atom
        isolated = potential.model._isolated() * float(config["scale"]) + float(config["shift"])
        potential.shifts.copy_(energies + isolated)
    shifts = dict(zip(species, potential.shifts.tolist()))
    potential.config["shifts"] = shifts
    return potential.eval().requires_grad_(False)


def _fill(potential: Potential, tensors: list[torch.Tensor]) -> torch.Tensor:
    """Put the arrays where they belong; returns the atomic energies [num_species]."""
    model, queue = potential.model, iter(tensors)
    energies = next(queue)
    set_parameter(model.embedding, torch.eye(len(energies), dtype=torch.float64), "embedding")
    gains: dict[str, float] = {}  # foreign features over ours: their gate has another constant
    for layer in model.layers:
        irreps_in, irreps_mid = layer.conv.irreps_node, layer.conv.irreps_out
        gate_in = layer.gate.irreps_in
        skip_out = gate_in if len(layer.pad_sc) == 1 else _kept(gate_in, irreps_in)
        set_radial(layer.radial, [next(queue) for _ in layer.radial.layers], 1.0, scaled=False)
        up = [next(queue) for _ in irreps_in]
        down = [next(queue) for _ in gate_in]
        skip = [next(queue) for _ in skip_out]
        weight = linear_weight(up, irreps_in, irreps_in, gains)
        set_parameter(layer.linear_up.weight, weight, "linear_1")
        weight = linear_weight(down, irreps_mid, gate_in)
        set_parameter(layer.linear_down.weight, weight, "linear_2")
        weight = linear_weight(skip, irreps_in, skip_out, gains)
        set_parameter(layer.self_connection.linear.weight, weight, "skip")
        if hasattr(layer.scale_features, "weight"):
            norm = torch.cat([next(queue) for _ in gate_in])
            set_parameter(layer.scale_features.weight, norm, "layer_norm")
        gains = {"": JAX_SILU_NORM / SILU_NORM}
    set_parameter(model.readout.layers[0].weight, next(queue) * gains[""], "readout")
    return energies


def _kept(wanted, present):
    """The blocks of `wanted` whose irrep is in `present`."""
    return type(wanted)([(mul, ir) for mul, ir in wanted if ir in present])


def load(path: str | Path) -> tuple[Potential, dict]:
    """A potential from a .nqx file, and what the manifest should say about it."""
    config, arrays = read_nqx(path)
    extra = {
        "licence": LICENCE,
        "citation": CITATION,
        "description": f"Nequix model {Path(path).name}, imported",
    }
    return convert(config, arrays), extra
