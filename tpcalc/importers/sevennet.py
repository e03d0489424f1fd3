"""SevenNet checkpoints (.pth): read with torch's restricted unpickler, nothing executed.

Source: Park et al., J. Chem. Theory Comput. 20, 4857 (2024); github.com/MDIL-SNU/SevenNet.
"""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import numpy as np
import torch
from ase.data import chemical_symbols
from e3nn.o3 import Irreps, wigner_3j

from tpcalc.errors import InputError
from tpcalc.importers.folding import (
    e3nn_activation_norm,
    gate_gains,
    linear_weight,
    set_parameter,
    set_radial,
    species_weight,
    split_blocks,
)
from tpcalc.potential import Potential, build_potential
from tpcalc.tensor_products.paths import Path as CouplingPath

LICENCE = "MIT for weights shipped in the sevenn package; others: ask who trained them"
CITATION = "Y. Park et al., J. Chem. Theory Comput. 20, 4857 (2024), doi:10.1021/acs.jctc.4c00190"
SORTED_SINCE = (0, 11, 0)  # before, weight columns are in the order paths were enumerated
_OLD_NAMES = {
    "EdgeEmbedding": "edge_embedding",
    "reducing nn input to hidden": "reduce_input_to_hidden",
    "reducing nn hidden to energy": "reduce_hidden_to_energy",
    "rescale atomic energy": "rescale_atomic_energy",
}
# what must hold; anything else is refused by name
_REQUIRED = {
    "interaction_type": ("nequip",),
    "act_radial": ("silu",),
    "act_scalar": ({"e": "silu", "o": "tanh"},),
    "act_gate": ({"e": "silu", "o": "tanh"},),
    "_normalize_sph": (True,),
    "readout_as_fcn": (False,),
    "use_bias_in_linear": (False,),
    "use_modality": (False, None),
    "lmax_edge": (-1, None),
}


def read_checkpoint(path: str | Path) -> tuple[dict, dict[str, torch.Tensor]]:
    """(config, state) of a checkpoint.

    Raises:
        InputError: not a SevenNet checkpoint, or one with objects other than numbers.
    """
    try:
        with torch.serialization.safe_globals(_numpy_globals()):
            stored = torch.load(path, weights_only=True, map_location="cpu")
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"{path} cannot be read as numbers alone: {reason}") from error
    if not isinstance(stored, dict) or not {"model_state_dict", "config"} <= set(stored):
        raise InputError(f"{path} is not a SevenNet checkpoint (no model_state_dict and config)")
    return stored["config"], _renamed(stored["model_state_dict"])


def _numpy_globals() -> list:
    """What numpy numbers and arrays in a pickle need, under old and new module names."""
    multiarray = np._core.multiarray
    names = [np.ndarray, np.dtype, *{type(np.dtype(c)) for c in "fdilqb?"}]
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
        names.append((multiarray.scalar, f"{module}.scalar"))
        names.append((multiarray._reconstruct, f"{module}._reconstruct"))
    return names


def _renamed(state: dict) -> dict[str, torch.Tensor]:
    """Names of before v0.10 ("0 self connection intro") as they are today."""
    renamed = {}
    for key, value in state.items():
        head, _, rest = key.partition(".")
        head = _OLD_NAMES.get(head, head)
        head = re.sub(r"^(\d+) ", r"\1_", head).replace(" ", "_")
        renamed[f"{head}.{rest.replace('denumerator', 'denominator')}"] = value
    return renamed


def describe(config: dict, state: dict[str, torch.Tensor]) -> dict:
    """The config of our potential.

    Raises:
        InputError: a part that cannot be carried, by name.
    """
    for key, allowed in _REQUIRED.items():
        if key in config and config[key] not in allowed:
            raise InputError(
                f"this SevenNet model has {key} = {config[key]!r}, which is not carried; "
                f"carried: {', '.join(repr(a) for a in allowed)}"
            )
    kinds = config["self_connection_type"]
    kinds = set(kinds if isinstance(kinds, list) else [kinds])
    if len(kinds) != 1 or not kinds <= {"linear", "nequip"}:
        raise InputError(
            f"self_connection_type {sorted(kinds)} is not carried; one of linear, nequip"
        )
    layers = config["num_convolution_layer"]
    symmetry = "O3" if config["is_parity"] else "SO3"
    embedding = state["onehot_to_feature_x.linear.weight"].numel()
    num_species = config["_number_of_species"]
    description = {
        "architecture": "nequip", "function": "cg",
        "species": _species(config), "cutoff": float(config["cutoff"]),
        "hidden_irreps": _hidden(config), "lmax": config["lmax"], "num_layers": layers,
        "num_basis": config["radial_basis"]["bessel_basis_num"],
        "radial_hidden": list(config["weight_nn_hidden_neurons"]), "readout_hidden": 0,
        "avg_num_neighbors": 1.0, "embedding_channels": embedding // num_species,
        "self_connection": "common" if kinds == {"linear"} else "species",
        "symmetry": symmetry,
    }  # fmt: skip
    cut = config["cutoff_function"]
    if cut["cutoff_function_name"] == "XPLOR":
        description |= {"cutoff_function": "xplor", "cutoff_onset": float(cut["cutoff_on"])}
    else:
        description["cutoff_p"] = float(cut["poly_cut_p_value"])
    return description


def _species(config: dict) -> list[str]:
    by_index = sorted((index, z) for z, index in config["_type_map"].items())
    return [chemical_symbols[z] for _, z in by_index]


def _hidden(config: dict) -> list[str]:
    """What each layer makes."""
    if config["irreps_manual"] is not False and config["irreps_manual"] is not None:
        return [str(irreps) for irreps in config["irreps_manual"][1:]]
    parities = ("e", "o") if config["is_parity"] else ("e",)
    mul, lmax = config["channel"], config["lmax"]
    every = "+".join(f"{mul}x{l}{p}" for l in range(lmax + 1) for p in parities)
    return [every] * (config["num_convolution_layer"] - 1) + [f"{mul}x0e"]


def convert(config: dict, state: dict, variant: str = "cg/reference") -> Potential:
    """Our potential with the weights of a SevenNet model, float64.

    Raises:
        InputError: something that cannot be carried, by name, or sizes that do not fit.
    """
    scale = np.unique(state["rescale_atomic_energy.scale"].double().numpy())
    if len(scale) != 1:
        raise InputError(
            f"this SevenNet model has {len(scale)} different scales per species; one is carried"
        )
    description = describe(config, state) | {"scale": float(scale[0])}
    potential = build_potential(description, variant)
    model, num_species = potential.model, len(potential.species)
    embedding = state["onehot_to_feature_x.linear.weight"].double() / np.sqrt(num_species)
    set_parameter(model.embedding, embedding, "onehot_to_feature_x")
    frequencies = state["edge_embedding.basis_function.coeffs"].double()
    set_parameter(model.radial_basis.frequencies, frequencies, "edge_embedding")
    version = tuple(int(v) for v in re.findall(r"\d+", config["version"])[:3])
    silu = e3nn_activation_norm("silu")
    gains: dict[str, float] = {}
    for n, layer in enumerate(model.layers):
        _fill_layer(layer, n, state, gains, version, silu, num_species)
        gains = gate_gains(silu, e3nn_activation_norm("tanh"))
    hidden = state["reduce_input_to_hidden.linear.weight"].double()
    width = model.layers[-1].gate.irreps_out.dim
    last = state["reduce_hidden_to_energy.linear.weight"].double()
    readout = hidden.reshape(width, -1) @ last.reshape(-1, 1) / np.sqrt(last.numel())
    set_parameter(model.readout.layers[0].weight, readout * gains[""], "reduce_to_energy")
    shift = state["rescale_atomic_energy.shift"].double().expand(num_species)
    with torch.no_grad():  # our energies are relative to the isolated atom
        potential.shifts.copy_(shift + model._isolated() * float(scale[0]))
    potential.config["shifts"] = dict(zip(potential.species, potential.shifts.tolist()))
    return potential.eval().requires_grad_(False)


def _fill_layer(layer, n: int, state: dict, gains: dict, version: tuple, silu: float,
                num_species: int) -> None:  # fmt: skip
    conv, gate_in = layer.conv, layer.gate.irreps_in
    irreps_in = conv.irreps_node
    name = f"{n}_self_interaction_1.linear.weight"
    blocks = split_blocks(state[name], irreps_in, irreps_in)
    weight = linear_weight(blocks, irreps_in, irreps_in, gains)
    set_parameter(layer.linear_up.weight, weight, name)
    name = f"{n}_self_interaction_2.linear.weight"
    blocks = split_blocks(state[name], conv.irreps_out, gate_in)
    weight = linear_weight(blocks, conv.irreps_out, gate_in)
    denominator = float(state[f"{n}_convolution.denominator"].double())
    set_parameter(layer.linear_down.weight, weight / denominator, name)
    kept = Irreps([(mul, ir) for mul, ir in gate_in if ir in irreps_in])
    name = f"{n}_self_connection_intro"
    if f"{name}.linear.weight" in state:
        blocks = split_blocks(state[f"{name}.linear.weight"], irreps_in, kept)
        weight = linear_weight(blocks, irreps_in, kept, gains)
        set_parameter(layer.self_connection.linear.weight, weight, name)
    else:
        flat = state[f"{name}.fc_tensor_product.weight"]
        weight = species_weight(flat, irreps_in, kept, num_species, gains)
        set_parameter(layer.self_connection.weight, weight, name)
    prefix = f"{n}_convolution.weight_nn.layer"
    matrices = [state[f"{prefix}{i}.weight"] for i in range(len(layer.radial.layers))]
    paths = conv.tensor_product.paths
    matrices[-1] = path_columns(matrices[-1].double(), paths, state, n, version)
    set_radial(layer.radial, matrices, silu, scaled=True)


def path_columns(
    matrix: torch.Tensor, paths: list[CouplingPath], state: dict, n: int, version: tuple
) -> torch.Tensor:
    """The columns of the last radial matrix in our order of paths, with our signs.

    Before 0.11 columns follow (input irrep, harmonic, output irrep); since then ours. Every
    stored 3j symbol is compared with today's: e3nn changed the sign of nine (odd l1 + l2 + l3).

    Raises:
        InputError: a stored 3j symbol is neither ours nor its negative.
    """
    theirs = list(paths)
    if version < SORTED_SINCE:
        theirs = sorted(paths, key=lambda p: (p.in1, p.in2, p.out))
    if matrix.shape[1] != sum(p.mul for p in paths):
        raise InputError(
            f"layer {n}: {matrix.shape[1]} path weights in the file, {sum(p.mul for p in paths)} "
            "in the architecture"
        )
    columns = dict(zip(theirs, torch.split(matrix, [p.mul for p in theirs], dim=1)))
    return torch.cat([columns[p] * _sign(state, n, p) for p in paths], dim=1)


def _sign(state: dict, n: int, path: CouplingPath) -> float:
    key = f"_w3j_{path.l1}_{path.l2}_{path.l3}"
    stored = state.get(f"{n}_convolution.convolution._compiled_main_left_right.{key}")
    if stored is None:  # a symbol with a zero degree is not stored; it has one form
        return 1.0
    own = wigner_3j(path.l1, path.l2, path.l3, dtype=torch.float64)
    for sign in (1.0, -1.0):
        if torch.allclose(stored.double() * sign, own, atol=1e-6):
            return sign
    raise InputError(f"layer {n}: the stored 3j symbol {key} is not in e3nn's basis")


def load(path: str | Path) -> tuple[Potential, dict]:
    """A potential from a checkpoint, and what the manifest should say about it."""
    config, state = read_checkpoint(path)
    extra = {
        "licence": LICENCE,
        "citation": CITATION,
        "description": f"SevenNet model {Path(path).name}, imported",
    }
    return convert(config, state), extra
