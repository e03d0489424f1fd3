"""NequIP models, from the plain arrays that `original_extract.py` hands over.

Source: Batzner et al., Nat. Commun. 13, 2453 (2022); Tan et al., arXiv:2504.16068 (nequip 0.7+).
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from ase.data import atomic_numbers
from e3nn.o3 import Irreps, wigner_3j

from tpcalc.errors import InputError
from tpcalc.importers import foreign
from tpcalc.importers.folding import gate_gains, linear_weight, set_parameter, set_radial
from tpcalc.nn.radial import SILU_NORM
from tpcalc.potential import Potential, build_potential

LICENCE = (
    "not stated in the file; the nequip package is MIT, weights are under the terms of whoever "
    "trained them: check where you got them"
)
CITATION = (
    "S. Batzner et al., Nat. Commun. 13, 2453 (2022), doi:10.1038/s41467-022-29939-5; "
    "C. W. Tan et al., arXiv:2504.16068 (2025)"
)
# module of the network -> the classes that are carried
_MODULES = {
    "type_embed": ("NodeTypeEmbed",),
    "spharm": ("SphericalHarmonicEdgeAttrs",),
    "edge_norm": ("EdgeLengthNormalizer",),
    "bessel_encode": ("BesselEdgeLengthEncoding",),
    "factor": ("ApplyFactor",),
    "per_atom_energy_readout": ("ScalarMLP",),
    "per_type_energy_scale_shift": ("PerTypeScaleShift",),
    "pair_potential": ("ZBL",),
    "total_energy_sum": ("AtomwiseReduce",),
}
_ACTIVATIONS = {"0e": "silu", "0o": "tanh"}


def describe(given: dict) -> dict:
    """The config of our potential, without scale and shifts.

    Raises:
        InputError: a part that cannot be carried, by name.
    """
    _refuse(given)
    layers = given["layers"]
    radial = {_radial_widths(layer) for layer in layers}
    if len(radial) != 1:
        raise InputError(f"radial networks {sorted(radial)} differ between layers; not carried")
    edge = Irreps(given["edge_irreps"])
    readout = given["readout"]
    return {
        "architecture": "nequip", "function": "cg", "species": list(given["type_names"]),
        "cutoff": given["r_max"], "hidden_irreps": [layer["irreps_out"] for layer in layers],
        "lmax": edge.lmax, "num_layers": len(layers), "num_basis": given["num_bessels"],
        "radial_hidden": list(radial.pop()), "cutoff_p": given["cutoff_p"],
        "embedding_channels": Irreps(layers[0]["irreps_in"]).dim,
        "readout_hidden": readout["widths"][0] if readout["layers"] == 2 else 0,
        "self_connection": ["species" if x["self_connection"] else "none" for x in layers],
        "symmetry": "SO3" if edge.lmax > 0 and all(ir.p == 1 for _, ir in edge) else "O3",
        **({"pair_repulsion": "zbl", "pair_cutoff_p": given["pair_cutoff_p"]}
           if "pair_potential" in given["modules"] else {}),
    }  # fmt: skip


def _radial_widths(layer: dict) -> tuple[int, ...]:
    return tuple(layer["radial"]["widths"])


def _refuse(given: dict) -> None:
    """Everything that the architecture does not have, by name."""
    for name, kind in given["modules"].items():
        known = ("ConvNetLayer",) if name.endswith("_convnet") else _MODULES.get(name, ())
        _check(f"module {name}", kind, known)
    if not given.get("layers"):
        raise InputError("this nequip model has no convolution layers; only NequIP is carried")
    _check("per_edge_type_cutoff", given["per_edge_type_cutoff"], (None,))
    _check("categorical graph fields", given["graph_fields"], ([],))
    _check("cutoff", given["cutoff"], ("PolynomialCutoff",))
    for name in given["type_names"]:
        _check("atom type (no element symbol)", name, tuple(atomic_numbers), brief=True)
    edge = Irreps(given["edge_irreps"])
    harmonics = [str(Irreps.spherical_harmonics(edge.lmax, p)) for p in (-1, 1)]
    _check("edge irreps", str(edge), tuple(harmonics))
    for n, layer in enumerate(given["layers"]):
        _refuse_layer(layer, f"layer {n}")
    readout = given["readout"]
    _check("layers of the readout", readout["layers"], (1, 2))
    _check("bias of the readout", readout["bias"], (False,))
    if readout["layers"] == 2:
        _check("activation of the readout", readout["activation"], ("SiLU",))


def _refuse_layer(layer: dict, where: str) -> None:
    nonlinear = layer["nonlinearity"]
    _check(f"convolution of {where}", layer["class"], ("InteractionBlock",))
    _check(f"tensor product of {where}", layer["scatter"], ("TensorProductScatter",))
    _check(f"resnet of {where}", layer["resnet"], (False,))
    _check(f"nonlinearity of {where}", nonlinear["class"], ("Gate",))
    for kind in ("act_scalars", "act_gates"):
        for ir, name, _ in nonlinear[kind]:
            _check(f"{kind} {ir} of {where}", name, (_ACTIVATIONS[ir],))
    _check(f"bias of the radial network of {where}", layer["radial"]["bias"], (False,))
    if layer["radial"]["layers"] > 1:
        _check(f"radial activation of {where}", layer["radial"]["activation"], ("SiLU",))
    irreps = Irreps(layer["irreps_out"])
    if len({ir for _, ir in irreps}) != len(irreps):
        raise InputError(f"this NequIP model repeats an irrep in {irreps} ({where}); not carried")


def _check(what: str, value, carried: tuple, brief: bool = False) -> None:
    if value not in carried:
        known = "chemical symbols" if brief else ", ".join(str(c) for c in carried) or "nothing"
        raise InputError(
            f"this NequIP model has {what} {value!r}, which is not carried; carried: {known}"
        )


def convert(given: dict, arrays: dict[str, np.ndarray], variant: str = "cg/reference") -> Potential:
    """Our potential with the weights of a NequIP model, float64.

    Raises:
        InputError: something that cannot be carried, by name, or sizes that do not fit.
    """
    state = {k: torch.from_numpy(np.array(v, dtype=np.float64)) for k, v in arrays.items()}
    description = describe(given)
    species = description["species"]
    norms = torch.cat([state[f"layers.{n}.norm"].flatten() for n in range(len(given["layers"]))])
    if not torch.allclose(norms, norms[:1].expand_as(norms), rtol=1e-14, atol=0):
        raise InputError("avg_num_neighbors differs by type or layer, which is not carried")
    description["avg_num_neighbors"] = float(norms[0]) ** -2
    scales = _per_type(state["scales"], len(species), 1.0)
    same = bool((scales == scales[0]).all())
    description["scale"] = float(scales[0]) if same else dict(zip(species, scales.tolist()))
    potential = build_potential(description, variant)
    model = potential.model
    set_parameter(model.embedding, state["type_embed"], "type_embed")
    frequencies = state["bessel_weights"] * math.pi / given["r_max"]
    set_parameter(model.radial_basis.frequencies, frequencies, "bessel_weights")
    # sinc(x w) w times the file's factor, over ours: 1 up to rounding of the file's constants
    ratio = given["bessel_factor"] * given["r_max"] / math.pi / model.radial_basis.prefactor
    gains: dict[str, float] = {}
    for n, layer in enumerate(model.layers):
        gains = _fill_layer(layer, n, given["layers"][n], state, gains, ratio)
    _fill_readout(model.readout, given, state, gains[""])
    if model.repulsive:
        with torch.no_grad():
            model.pair_repulsion.prefactor.copy_(state["zbl_prefactor"])
            model.pair_repulsion.numbers.copy_(state["zbl_numbers"])
    with torch.no_grad():  # our energies are relative to the isolated atom
        shifts = _per_type(state["shifts"], len(species), 0.0)
        potential.shifts.copy_(shifts + model._isolated() * scales)
    potential.config["shifts"] = dict(zip(species, potential.shifts.tolist()))
    return potential.eval().requires_grad_(False)


def _per_type(values: torch.Tensor, num_species: int, default: float) -> torch.Tensor:
    """[num_species] from nothing, one number, or one a type."""
    if values.numel() == 0:
        return torch.full((num_species,), default, dtype=torch.float64)
    return values.flatten().expand(num_species).clone()


def _fill_layer(layer, n: int, given: dict, state: dict, gains: dict, ratio: float) -> dict:
    """Weights of one layer; returns the gains of its features (theirs over ours)."""
    prefix, conv, gate_in = f"layers.{n}", layer.conv, layer.gate.irreps_in
    irreps_in = conv.irreps_node
    if sorted(Irreps(given["irreps_in"])) != sorted(irreps_in):
        raise InputError(f"{prefix}: features {given['irreps_in']} in the file, ours {irreps_in}")
    blocks = [state[f"{prefix}.linear_1.{ir}"] for _, ir in irreps_in]
    weight = linear_weight(blocks, irreps_in, irreps_in, gains)
    set_parameter(layer.linear_up.weight, weight, f"{prefix}.linear_1")
    rows, columns = _path_orders(given, conv, state)
    columns_out = _gate_columns(given, layer.gate)
    blocks = []
    for _, ir in gate_in:
        block = state[f"{prefix}.linear_2.{ir}"][rows[str(ir)]]
        blocks.append(block[:, columns_out] if str(ir) == "0e" else block)
    weight = linear_weight(blocks, conv.irreps_out, gate_in)
    set_parameter(layer.linear_down.weight, weight, f"{prefix}.linear_2")
    if given["self_connection"]:
        weight = _species_matrices(layer, prefix, state, gains, columns_out)
        set_parameter(layer.self_connection.weight, weight, f"{prefix}.sc")
    count = given["radial"]["layers"]
    matrices = [state[f"{prefix}.radial.{i}"] for i in range(count)]
    matrices[0] = matrices[0] * ratio
    order, signs = columns
    matrices[-1] = matrices[-1][:, order] * signs
    set_radial(layer.radial, matrices, 1.0, scaled=False)
    norms = {ir: norm for ir, _, norm in given["nonlinearity"]["act_scalars"]}
    silu = norms.get("0e", [*[c for _, _, c in given["nonlinearity"]["act_gates"]], SILU_NORM][0])
    return gate_gains(silu, norms.get("0o", 1.0))


def _path_orders(given: dict, conv, state: dict):
    """Their rows of each block before `linear_2`, and their path weights, in our order.

    Rows follow their paths sorted by output irrep, weights follow the paths as enumerated (over
    features in their order). Signs are those of their 3j symbols over ours.
    """
    muls = {str(ir): mul for mul, ir in conv.irreps_node}
    theirs = [tuple(path) for path in given["paths"]]
    first_row: dict = {}
    first_column: dict = {}
    total, block_size = 0, {}
    for path in theirs:
        mul, out = muls[path[0]], path[2]
        first_column[path] = total
        total += mul
        first_row[path] = block_size.get(out, 0)
        block_size[out] = first_row[path] + mul
    rows: dict[str, list[int]] = {}
    order: list[int] = []
    signs: list[float] = []
    product = conv.tensor_product
    edge = Irreps(product.irreps_in2)
    if len(product.paths) != len(theirs):
        raise InputError(f"{len(theirs)} paths in the file, {len(product.paths)} in ours")
    for path in product.paths:
        out = str(conv.irreps_out[path.out].ir)
        key = (str(conv.irreps_node[path.in1].ir), str(edge[path.in2].ir), out)
        if key not in first_column:
            raise InputError(f"the file has no path {key}; its paths are not those of NequIP")
        rows.setdefault(out, []).extend(range(first_row[key], first_row[key] + path.mul))
        order += range(first_column[key], first_column[key] + path.mul)
        signs += [_sign(path, state)] * path.mul
    return rows, (order, torch.tensor(signs, dtype=torch.float64))


def _sign(path, state: dict) -> float:
    own = wigner_3j(path.l1, path.l2, path.l3, dtype=torch.float64)
    stored = state[f"w3j_{path.l1}_{path.l2}_{path.l3}"]
    for sign in (1.0, -1.0):
        if torch.allclose(stored * sign, own, atol=1e-6):
            return sign
    raise InputError(f"the 3j symbol {path.l1} {path.l2} {path.l3} is not in e3nn's basis")


def _gate_columns(given: dict, gate) -> list[int]:
    """Their columns of the 0e block (scalars, then gates of their blocks) in our order of gates."""
    start = gate.num_even
    first = {}
    for mul, ir in Irreps(given["nonlinearity"]["gated"]):
        first[ir] = range(start, start + mul)
        start += mul
    gates = [i for _, ir in gate.irreps_out if ir.l > 0 for i in first[ir]]
    return [*range(gate.num_even), *gates]


def _species_matrices(layer, prefix: str, state: dict, gains: dict, columns: list[int]):
    """Their product of features with the type embedding: one matrix a species and irrep."""
    irreps_in = layer.conv.irreps_node
    embedding = state["type_embed"]
    parts = []
    for _, ir in layer.gate.irreps_in:
        if ir not in irreps_in:
            continue
        weight = state[f"{prefix}.sc.{ir}"]  # [in, embedding, out]
        if str(ir) == "0e":
            weight = weight[..., columns]
        gain = gains.get(str(ir), gains.get("", 1.0))
        scale = gain / math.sqrt(weight.shape[0] * weight.shape[1])
        parts.append(torch.einsum("iao,sa->sio", weight * scale, embedding).flatten())
    return torch.cat(parts)


def _fill_readout(readout, given: dict, state: dict, gain: float) -> None:
    """One or two matrices; theirs hold their scale already, ours divide by sqrt(fan-in)."""
    for i, layer in enumerate(readout.layers):
        matrix = state[f"readout.{i}"]
        factor = math.sqrt(matrix.shape[0]) * (gain if i == 0 else 1.0 / SILU_NORM)
        set_parameter(layer.weight, matrix * factor, f"readout {i}")


def refuse_compiled(path: str | Path) -> None:
    """Raises:
    InputError: a model of nequip-compile.
    """
    if Path(path).suffix in (".pt2", ".pth"):
        raise InputError(
            f"{path} was made by nequip-compile: it holds compiled code and no weights by name; "
            "import the checkpoint (.ckpt) or package (.nequip.zip) that it was made from"
        )


def load(path: str | Path, python) -> tuple[Potential, dict]:
    """A potential from a .ckpt or .nequip.zip file, and what the manifest should say about it.

    Executes the file's pickle in `python`, an interpreter that has nequip.

    Raises:
        InputError: something that cannot be carried.
    """
    description, arrays = foreign.extract(path, "nequip", python)
    extra = {
        "licence": LICENCE,
        "citation": CITATION,
        "description": f"NequIP model {Path(path).name}, imported; {description['versions']}",
    }
    return convert(description, arrays), extra
