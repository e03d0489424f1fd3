"""MACE models, from the plain arrays that `original_extract.py` hands over.

Source: Batatia et al., NeurIPS 2022; github.com/ACEsuit/mace.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from ase.data import chemical_symbols
from e3nn.o3 import Irreps, wigner_3j

from tpcalc.errors import InputError
from tpcalc.importers import foreign
from tpcalc.importers.folding import (
    e3nn_activation_norm,
    linear_weight,
    set_parameter,
    set_radial,
    species_weight,
    split_blocks,
)
from tpcalc.importers.symmetric import change_of_paths
from tpcalc.nn.radial import SILU_NORM
from tpcalc.potential import Potential, build_potential

LICENCE = (
    "not stated in the file; MACE-MP and MACE-MPA weights are MIT, MACE-OFF weights are under "
    "the Academic Software License: check where you got them"
)
CITATION = "I. Batatia et al., MACE, NeurIPS 35 (2022), arXiv:2206.07697"
BLOCKS = {
    "RealAgnosticInteractionBlock": ("plain", "count"),
    "RealAgnosticResidualInteractionBlock": ("residual", "count"),
    "RealAgnosticDensityInteractionBlock": ("plain", "density"),
    "RealAgnosticDensityResidualInteractionBlock": ("residual", "density"),
}
_CLASSES = ("MACE", "ScaleShiftMACE")
_PARTS = (
    "node_embedding", "radial_embedding", "spherical_harmonics", "atomic_energies_fn",
    "interactions", "products", "readouts", "scale_shift", "pair_repulsion_fn",
)  # fmt: skip


def describe(given: dict) -> dict:
    """The config of our potential, without scale and shifts.

    Raises:
        InputError: a part that cannot be carried, by name.
    """
    _refuse(given)
    kinds = [BLOCKS[block["class"]] for block in given["interactions"]]
    first, rest = kinds[0], kinds[1:] or kinds[:1]
    if len(set(rest)) != 1 or len({norm for _, norm in kinds}) != 1:
        raise InputError(f"interaction blocks {[b['class'] for b in given['interactions']]} mixed")
    correlations = {product["correlation"] for product in given["products"]}
    if len(correlations) != 1:
        raise InputError(f"correlations {sorted(correlations)} differ between layers; not carried")
    hidden = given["products"][0]["irreps_out"]
    return {
        "architecture": "mace", "function": "cg",
        "species": [chemical_symbols[z] for z in given["atomic_numbers"]],
        "cutoff": given["r_max"], "hidden_irreps": str(Irreps(hidden).sort().irreps.simplify()),
        "lmax": Irreps(given["edge_irreps"]).lmax, "num_layers": given["num_interactions"],
        "correlation": correlations.pop(), "num_basis": given["num_radial"],
        "radial_hidden": given["interactions"][0]["radial_mlp"], "cutoff_p": given["cutoff_p"],
        "avg_num_neighbors": given["interactions"][0]["avg_num_neighbors"],
        "readout_hidden": _readout_width(given), "first_block": first[0], "block": rest[0][0],
        "normalization": first[1],
        "radial_transform": "agnesi" if given["distance_transform"] else "none",
        "pair_repulsion": "zbl" if given["pair_repulsion"] else "none",
        "cutoff_at": "basis" if given["apply_cutoff"] else "weights",
    }  # fmt: skip


def _refuse(given: dict) -> None:
    """Everything that the architecture does not have, by name."""
    harmonics = str(Irreps.spherical_harmonics(Irreps(given["edge_irreps"]).lmax))
    checks = [
        ("class", given["class"], _CLASSES),
        ("radial basis", given["radial"], ("BesselBasis",)),
        ("distance transform", given["distance_transform"], (None, "AgnesiTransform")),
        ("edge irreps", str(Irreps(given["edge_irreps"])), (harmonics,)),
    ]
    checks += [("interaction block", b["class"], tuple(BLOCKS)) for b in given["interactions"]]
    checks += [("module", name, _PARTS) for name in given["extras"]]
    last = len(given["readouts"]) - 1
    for n, readout in enumerate(given["readouts"]):
        kind = "NonLinearReadoutBlock" if n == last else "LinearReadoutBlock"
        checks.append((f"readout {n}", readout["class"], (kind,)))
        for name in readout.get("activation", []):
            checks.append((f"activation of readout {n}", name, ("silu",)))
    if len(given["readouts"]) != given["num_interactions"]:
        checks.append(("number of readouts", len(given["readouts"]), (given["num_interactions"],)))
    for kind, value, carried in checks:
        if value not in carried:
            raise InputError(
                f"this MACE model has {kind} {value!r}, which is not carried; "
                f"carried: {', '.join(str(c) for c in carried)}"
            )


def _readout_width(given: dict) -> int:
    return Irreps(given["readouts"][-1]["hidden"]).dim // len(given["heads"])


def choose_head(given: dict, head: str | None) -> int:
    """Index of the head.

    Raises:
        InputError: an unknown head, or none named where there are several.
    """
    heads = given["heads"]
    if head is None and len(heads) == 1:
        return 0
    if head not in heads:
        raise InputError(f"--head {head}: this model has the heads {', '.join(heads)}; name one")
    return heads.index(head)


def convert(given: dict, arrays: dict[str, np.ndarray], head: str | None = None,
            variant: str = "cg/reference") -> Potential:  # fmt: skip
    """Our potential with the weights of a MACE model, float64.

    Raises:
        InputError: something that cannot be carried, by name, or sizes that do not fit.
    """
    chosen = choose_head(given, head)
    state = {k: torch.from_numpy(np.array(v)) for k, v in arrays.items()}
    scale = _of_head(state.get("scale_shift.scale"), chosen, 1.0)
    shift = _of_head(state.get("scale_shift.shift"), chosen, 0.0)
    potential = build_potential(describe(given) | {"scale": scale}, variant)
    model, num_species = potential.model, len(potential.species)
    embedding = state["node_embedding.linear.weight"] / math.sqrt(num_species)
    set_parameter(model.embedding, embedding, "node_embedding")
    for n, layer in enumerate(model.layers):
        _fill_layer(layer, n, state, num_species)
        _fill_product(layer, n, state)
        _fill_readout(model.readouts[n], n, state, given, chosen)
    _fill_radial(model, state)
    energies = torch.atleast_2d(state["atomic_energies_fn.atomic_energies"])[chosen]
    with torch.no_grad():  # our energies are relative to the isolated atom
        potential.shifts.copy_(energies + shift + scale * model._isolated())
    potential.config["shifts"] = dict(zip(potential.species, potential.shifts.tolist()))
    return potential.eval().requires_grad_(False)


def _of_head(value: torch.Tensor | None, head: int, default: float) -> float:
    if value is None:
        return default
    value = torch.atleast_1d(value)
    return float(value[head if value.numel() > 1 else 0])


def _fill_radial(model, state: dict) -> None:
    """Basis, distance transform and repulsion, with the constants the file has."""
    basis = "radial_embedding.bessel_fn"
    frequencies = state[f"{basis}.bessel_weights"]
    set_parameter(model.radial_basis.frequencies, frequencies, "bessel_weights")
    # the file's prefactor may be rounded to float32; ours is not stored, so weights take it up
    ratio = float(state[f"{basis}.prefactor"]) / model.radial_basis.prefactor
    for layer in model.layers:
        first = [layer.radial.layers[0]] + ([layer.density] if layer.by_density else [])
        for linear in first:
            linear.weight.data *= ratio
    numbers = state["atomic_numbers"]
    if model.transformed:
        prefix = "radial_embedding.distance_transform"
        model.transform.constants.copy_(torch.stack([state[f"{prefix}.{c}"] for c in "qpa"]))
        model.transform.radii.copy_(state[f"{prefix}.covalent_radii"][numbers])
    if model.repulsive:
        prefix, zbl = "pair_repulsion_fn", model.pair_repulsion
        zbl.radii.copy_(state[f"{prefix}.covalent_radii"][numbers])
        zbl.coefficients.copy_(state[f"{prefix}.c"])
        screening = [state[f"{prefix}.{c}"] for c in ("a_exp", "a_prefactor")]
        zbl.screening.copy_(torch.stack(screening))


def _fill_layer(layer, n: int, state: dict, num_species: int) -> None:
    prefix = f"interactions.{n}"
    irreps_in, target = layer.conv.irreps_node, layer.product.irreps_in
    blocks = split_blocks(state[f"{prefix}.linear_up.weight"], irreps_in, irreps_in)
    weight = linear_weight(blocks, irreps_in, irreps_in)
    set_parameter(layer.linear_up.weight, weight, f"{prefix}.linear_up")
    blocks = split_blocks(state[f"{prefix}.linear.weight"], layer.conv.irreps_out, target)
    weight = linear_weight(blocks, layer.conv.irreps_out, target)
    set_parameter(layer.linear_down.weight, weight, f"{prefix}.linear")
    out = layer.product.irreps_out
    kept = Irreps([(mul, ir) for mul, ir in out if ir in irreps_in])
    ends = (irreps_in, kept) if layer.residual else (target, target)
    weight = species_weight(state[f"{prefix}.skip_tp.weight"], *ends, num_species)
    set_parameter(layer.self_connection.weight, weight, f"{prefix}.skip_tp")
    if layer.by_density:
        # both divide by sqrt(fan-in)
        weight = state[f"{prefix}.density_fn.layer0.weight"]
        set_parameter(layer.density.weight, weight, f"{prefix}.density_fn")
    names = [f"{prefix}.conv_tp_weights.layer{i}.weight" for i in range(len(layer.radial.layers))]
    matrices = [state[name] for name in names]
    matrices[-1] = _signed(matrices[-1], layer, prefix, state)
    set_radial(layer.radial, matrices, e3nn_activation_norm("silu"), scaled=True)
    blocks = split_blocks(state[f"products.{n}.linear.weight"], out, out)
    set_parameter(layer.linear_out.weight, linear_weight(blocks, out, out), "product linear")


def _signed(matrix: torch.Tensor, layer, prefix: str, state: dict) -> torch.Tensor:
    """Columns in our order already; signs where the stored 3j symbol is the negative of ours."""
    paths = layer.conv.tensor_product.paths
    if matrix.shape[1] != sum(p.mul for p in paths):
        raise InputError(
            f"{prefix}: {matrix.shape[1]} path weights in the file, {sum(p.mul for p in paths)} in "
            "the architecture (edge_irreps other than the node features are not carried)"
        )
    parts = []
    for path, part in zip(paths, torch.split(matrix, [p.mul for p in paths], dim=1)):
        name = f"_w3j_{path.l1}_{path.l2}_{path.l3}"
        stored = state.get(f"{prefix}.conv_tp._compiled_main_left_right.{name}")
        own = wigner_3j(path.l1, path.l2, path.l3, dtype=torch.float64)
        same = stored is None or torch.allclose(stored.double(), own, atol=1e-6)
        if not same and not torch.allclose(-stored.double(), own, atol=1e-6):
            raise InputError(f"{prefix}: the stored 3j symbol {name} is not in e3nn's basis")
        parts.append(part if same else -part)
    return torch.cat(parts, 1)


def _fill_product(layer, n: int, state: dict) -> None:
    """Weights of the symmetric contraction, carried from the stored U to our couplings."""
    product = layer.product
    nu_max = product.correlation
    for i, (_, ir) in enumerate(product.irreps_out):
        prefix = f"products.{n}.symmetric_contractions.contractions.{i}"
        for nu in range(1, nu_max + 1):
            name = "weights_max" if nu == nu_max else f"weights.{nu_max - nu - 1}"
            weight = state[f"{prefix}.{name}"]  # [species, paths, channels]
            u = state[f"{prefix}.U_matrix_{nu}"].double()
            ours = product.weights[i * nu_max + nu - 1]
            if ours.shape[1] == 0:
                if u.abs().max() > 0:
                    raise InputError(f"{prefix}: power {nu} has paths that we do not know")
                continue
            change = change_of_paths(product.irreps_in, ir, nu, u)  # [ours, theirs]
            weight = torch.einsum("pq,zqc->zpc", change, weight.double())
            set_parameter(ours, weight, f"{prefix}.{name}")


def _fill_readout(readout, n: int, state: dict, given: dict, head: int) -> None:
    """The column of one head; a nonlinear readout keeps a block of hidden units per head."""
    heads = len(given["heads"])
    if len(readout.layers) == 1:
        weight = state[f"readouts.{n}.linear.weight"].reshape(-1, heads)[:, head]
        set_parameter(readout.layers[0].weight, weight, f"readouts.{n}")
        return
    width = _readout_width(given)
    mine = slice(head * width, (head + 1) * width)
    first = state[f"readouts.{n}.linear_1.weight"].reshape(-1, heads * width)[:, mine]
    set_parameter(readout.layers[0].weight, first, f"readouts.{n}.linear_1")
    second = state[f"readouts.{n}.linear_2.weight"].reshape(heads * width, heads)[mine, head]
    factor = given["readouts"][n]["activation_norm"][0] / SILU_NORM / math.sqrt(heads)
    set_parameter(readout.layers[1].weight, second * factor, f"readouts.{n}.linear_2")


def load(path: str | Path, python, head: str | None = None) -> tuple[Potential, dict]:
    """A potential from a .model file, and what the manifest should say about it.

    Executes the file's pickle in `python`, an interpreter that has mace.
    """
    description, arrays = foreign.extract(path, "mace", python)
    extra = {
        "licence": LICENCE,
        "citation": CITATION,
        "description": f"MACE model {Path(path).name}, imported; {description['versions']}",
    }
    return convert(description, arrays, head), extra
