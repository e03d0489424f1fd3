"""Runs in the Python of a foreign package; imports nothing of tpcalc.

    python original_extract.py KIND FILE OUT.npz [HEAD]

Hands over the original's weights as plain arrays, with a description of the structure. Executes
FILE's pickle.
"""

import json
import sys

import numpy as np


def extract_mace(path, head):
    """Description and arrays of a MACE model."""
    import torch

    model = torch.load(path, map_location="cpu", weights_only=False).double()
    arrays = {k: v.detach().numpy() for k, v in model.state_dict().items()}
    blocks = [describe_block(b) for b in model.interactions]
    heads = list(getattr(model, "heads", None) or ["Default"])
    radial = model.radial_embedding
    transform = getattr(radial, "distance_transform", None)
    description = {
        "class": type(model).__name__,
        "versions": versions("mace-torch", "e3nn", "torch"),
        "atomic_numbers": [int(z) for z in model.atomic_numbers],
        "r_max": float(model.r_max),
        "num_interactions": int(model.num_interactions),
        "heads": heads,
        "radial": type(radial.bessel_fn).__name__,
        "num_radial": int(radial.out_dim),
        "cutoff_p": float(radial.cutoff_fn.p),
        "apply_cutoff": bool(getattr(radial, "apply_cutoff", True)),
        "distance_transform": type(transform).__name__ if transform is not None else None,
        "pair_repulsion": bool(
            getattr(model, "pair_repulsion", hasattr(model, "pair_repulsion_fn"))
        ),
        "embedding_irreps": str(model.node_embedding.linear.irreps_out),
        "edge_irreps": str(model.spherical_harmonics._irreps_out)
        if hasattr(model.spherical_harmonics, "_irreps_out")
        else str(model.spherical_harmonics.irreps_out),
        "interactions": blocks,
        "products": [describe_product(p) for p in model.products],
        "readouts": [describe_readout(r) for r in model.readouts],
        "extras": [name for name, _ in model.named_children()],
    }
    return description, arrays


def describe_block(block):
    """One interaction block: its class and irreps."""
    return {
        "class": type(block).__name__,
        "node_feats": str(block.node_feats_irreps),
        "target": str(block.target_irreps),
        "hidden": str(block.hidden_irreps),
        "avg_num_neighbors": float(block.avg_num_neighbors),
        "radial_mlp": [int(n) for n in block.radial_MLP],
        "instructions": [
            [int(i.i_in1), int(i.i_in2), int(i.i_out)] for i in block.conv_tp.instructions
        ],
        "conv_out": str(block.conv_tp.irreps_out),
        "attributes": sorted(name for name, _ in block.named_children()),
    }


def describe_product(product):
    """One symmetric contraction and the linear map behind it."""
    contraction = product.symmetric_contractions
    return {
        "class": type(product).__name__,
        "use_sc": bool(product.use_sc),
        "correlation": int(contraction.contractions[0].correlation),
        "irreps_in": str(contraction.irreps_in),
        "irreps_out": str(contraction.irreps_out),
    }


def describe_readout(readout):
    """One readout: its class, and the activation where there is one."""
    entry = {"class": type(readout).__name__}
    if hasattr(readout, "hidden_irreps"):
        entry["hidden"] = str(readout.hidden_irreps)
        acts = readout.non_linearity.acts
        entry["activation_norm"] = [float(getattr(a, "cst", 1.0)) for a in acts]
        entry["activation"] = [getattr(getattr(a, "f", a), "__name__", str(a)) for a in acts]
    return entry


def versions(*names):
    """Versions of the packages that made the arrays."""
    from importlib.metadata import version

    return {name: version(name) for name in names}


def extract_nequip(path, head):
    """Description and arrays of a NequIP model, .ckpt or .nequip.zip."""
    from nequip.integrations.ase import NequIPCalculator

    model = NequIPCalculator._from_saved_model(path, device="cpu").model
    dtype = str(model.model_dtype).partition(".")[2]
    network = model.double().model.func
    parts = dict(network.named_children())
    layers = [part for name, part in parts.items() if type(part).__name__ == "ConvNetLayer"]
    arrays = {}
    description = {
        "versions": versions("nequip", "e3nn", "torch"),
        "model_dtype": dtype,
        "type_names": model.metadata["type_names"].split(" "),
        "r_max": float(model.metadata["r_max"]),
        "per_edge_type_cutoff": model.metadata.get("per_edge_type_cutoff"),
        "modules": {name: type(part).__name__ for name, part in parts.items()},
    }
    if layers:  # else not a NequIP model; the classes above are refused by name
        description |= describe_nequip(parts, arrays)
        description["layers"] = [
            describe_nequip_layer(layer, f"layers.{n}", arrays) for n, layer in enumerate(layers)
        ]
    return description, {k: v.detach().double().cpu().numpy() for k, v in arrays.items()}


def describe_nequip(parts, arrays):
    """What stands before and behind the layers."""
    embed, bessel = parts["type_embed"], parts["bessel_encode"]
    scale_shift = parts["per_type_energy_scale_shift"]
    arrays["type_embed"] = embed.embed_module.weight
    arrays["bessel_weights"] = bessel.bessel_weights
    arrays["scales"], arrays["shifts"] = scale_shift.scales, scale_shift.shifts
    readout = scalar_mlp(parts["per_atom_energy_readout"].mlp_module, "readout", arrays)
    pair = parts.get("pair_potential")
    if type(pair).__name__ == "ZBL":
        arrays["zbl_prefactor"] = pair._qqr2exesquare
        arrays["zbl_numbers"] = pair.atomic_numbers
    return {
        "graph_fields": sorted(embed.categorical_graph_field_embed_modules),
        "num_bessels": int(bessel.num_bessels),
        "bessel_factor": float(parts["factor"].factor),
        "cutoff": type(bessel.cutoff).__name__
        if hasattr(bessel.cutoff, "p")
        else bessel.cutoff.original_name,
        "cutoff_p": float(bessel.cutoff.p),
        "edge_irreps": str(parts["spharm"].irreps_edge_sh),
        "readout": readout,
        "pair_cutoff_p": float(pair.cutoff.p) if "zbl_numbers" in arrays else None,
    }


def describe_nequip_layer(layer, prefix, arrays):
    """One layer: classes and irreps; its weights by irrep and path into `arrays`."""
    from e3nn.o3 import wigner_3j

    conv, gate = layer.conv, layer.equivariant_nonlin
    tp = conv.tp_scatter.tp
    arrays[f"{prefix}.norm"] = conv.avg_num_neighbors_norm.norm_const
    for name in ("linear_1", "linear_2"):
        linear = getattr(conv, name)
        for _, instruction, weight in linear.weight_views(yield_instruction=True):
            ir = linear.irreps_in[instruction.i_in].ir
            arrays[f"{prefix}.{name}.{ir}"] = weight
    if conv.sc is not None:
        for _, instruction, weight in conv.sc.weight_views(yield_instruction=True):
            ir = conv.sc.irreps_in1[instruction.i_in1].ir
            arrays[f"{prefix}.sc.{ir}"] = weight
    paths = []
    stored = tp.state_dict()
    for instruction in tp.instructions:
        ends = [
            tp.irreps_in1[instruction.i_in1].ir,
            tp.irreps_in2[instruction.i_in2].ir,
            tp.irreps_out[instruction.i_out].ir,
        ]
        paths.append([str(ir) for ir in ends])
        degrees = [ir.l for ir in ends]
        name = "w3j_{}_{}_{}".format(*degrees)
        inside = [v for k, v in stored.items() if k.endswith(name)]
        arrays[name] = inside[0] if inside else wigner_3j(*degrees)
    nonlinear = {"class": type(gate).__name__}
    if nonlinear["class"] == "Gate":
        for kind, acts in (("scalars", gate.act_scalars), ("gates", gate.act_gates)):
            nonlinear[f"act_{kind}"] = [
                [str(ir), getattr(act.f, "__name__", str(act.f)), float(act.cst)]
                for (_, ir), act in zip(getattr(gate, f"irreps_{kind}"), acts.acts)
            ]
        nonlinear["gated"] = str(gate.irreps_gated)
    return {
        "class": type(conv).__name__,
        "scatter": type(conv.tp_scatter).__name__,
        "resnet": bool(layer.resnet),
        "self_connection": conv.sc is not None,
        "irreps_in": str(conv.linear_1.irreps_in),
        "irreps_out": str(gate.irreps_out),
        "conv_out": str(conv.linear_2.irreps_out),
        "paths": paths,
        "nonlinearity": nonlinear,
        "radial": scalar_mlp(conv.edge_mlp, f"{prefix}.radial", arrays),
    }


def scalar_mlp(network, prefix, arrays):
    """Effective matrices (weight times alpha, a linear chain multiplied out) into `arrays`."""
    import torch

    if type(network.mlp).__name__ == "DeepLinearMLP":
        product = torch.linalg.multi_dot(list(network.mlp.weights))
        arrays[f"{prefix}.0"] = product * network.mlp.alpha
        return {"layers": 1, "widths": [], "activation": None, "bias": False}
    linear = [m for m in network.mlp if hasattr(m, "alpha")]
    for n, layer in enumerate(linear):
        arrays[f"{prefix}.{n}"] = layer.weight * layer.alpha
    others = {type(m).__name__ for m in network.mlp if not hasattr(m, "alpha")}
    return {
        "layers": len(linear),
        "widths": [layer.out_features for layer in linear[:-1]],
        "activation": "+".join(sorted(others)) or None,
        "bias": bool(network.bias),
    }


def extract(kind, path, out, head=None):
    """Arrays and description into OUT.npz."""
    description, arrays = {"mace": extract_mace, "nequip": extract_nequip}[kind](path, head)
    np.savez(out, __description__=np.array(json.dumps(description)), **arrays)


if __name__ == "__main__":
    sys.path.pop(0)  # this folder: its mace.py is not the package
    extract(*sys.argv[1:])
