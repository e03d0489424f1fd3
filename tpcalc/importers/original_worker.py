"""Runs in the Python of a foreign package; imports nothing of tpcalc.

    python original_worker.py evaluate KIND FILE STRUCTURES.json OUT.json [HEAD]
    python original_worker.py extract  KIND FILE OUT.npz [HEAD]

`evaluate` puts the original's energies, forces, stresses into OUT.json; `extract` hands over
its weights as plain arrays, with a description of the structure. Both execute FILE's pickle.
"""

import json
import resource
import sys
import time
from pathlib import Path

import numpy as np


def calculator(kind, path, head, dtype):
    """The package's own ASE calculator."""
    if kind == "mace":
        import torch
        from mace.calculators import MACECalculator

        # its ZBL multiplies Python numbers with integers, which follows the default dtype: left
        # at float32 the repulsion is off by 4e-8 of itself in "float64" too
        torch.set_default_dtype(getattr(torch, dtype))
        options = {"head": head} if head else {}
        return MACECalculator(
            model_paths=path, device="cpu", default_dtype=dtype, **options
        )  # fmt: skip
    if kind == "sevennet":
        from sevenn.calculator import SevenNetCalculator

        calc = SevenNetCalculator(path, device="cpu")
        if dtype == "float64":
            sevennet_double(calc.model)
        return calc
    if kind == "nequip":
        from nequip.integrations.ase import NequIPCalculator

        if str(path).endswith((".nequip.pt2", ".nequip.pth")):  # made by nequip-compile
            return NequIPCalculator.from_compiled_model(path, device="cpu")
        calc = NequIPCalculator._from_saved_model(path, device="cpu")
        nequip_precision(calc.model, dtype)
        return calc
    raise SystemExit("no calculator for " + kind)


def sevennet_double(model):
    """SevenNet's own modules in float64 (it computes in float32): weights as stored, structures
    and 3j symbols unrounded."""
    import functools

    import sevenn.util
    import torch
    from e3nn.o3 import wigner_3j

    model.double()
    for name, stored in model.named_buffers():
        if "_w3j_" in name:
            exact = wigner_3j(*map(int, name.split("_w3j_")[1].split("_")), dtype=torch.float64)
            stored.copy_(exact * (stored * exact).sum().sign())  # e3nn changed some signs

    def one_hot_double(module, args, data):
        for key in (module.key_output, module.key_additional_output):
            if key is not None:
                data[key] = data[key].double()

    for module in model.modules():
        if type(module).__name__ == "OnehotEmbedding":  # it calls float()
            module.register_forward_hook(one_hot_double)
    correct = sevenn.util.dtype_correct
    sevenn.util.dtype_correct = functools.partial(correct, float_dtype=torch.float64)


def structures(path):
    """ASE atoms from the JSON list of numbers, positions, cell, pbc."""
    from ase import Atoms

    return [Atoms(**entry) for entry in json.loads(Path(path).read_text())["structures"]]


def evaluate(kind, path, source, out, head=None):
    """Energies (eV), forces (eV/Å), stress (eV/Å^3, Voigt, of periodic ones); ms a call."""
    request = json.loads(Path(source).read_text())
    import torch

    torch.set_num_threads(int(request.get("threads", 1)))
    calc = calculator(kind, path, head, request.get("dtype", "float64"))
    results = []
    for atoms in structures(source):
        atoms.calc = calc
        entry = {"energy": float(atoms.get_potential_energy())}
        entry["forces"] = np.asarray(atoms.get_forces(), dtype=float).tolist()
        if atoms.pbc.all():
            entry["stress"] = np.asarray(atoms.get_stress(), dtype=float).tolist()
        entry["ms"] = timings(atoms, request.get("repeats", 0))
        entry["peak_MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        results.append(entry)
    Path(out).write_text(json.dumps(results))


def timings(atoms, repeats):
    """(wall, CPU) ms of each of `repeats` calls on slightly moved atoms, after two cold ones."""
    rng = np.random.default_rng(0)
    times = []
    for _ in range(repeats + 2 if repeats else 0):
        atoms.positions += rng.normal(scale=1e-3, size=atoms.positions.shape)
        wall, cpu = time.perf_counter(), time.process_time()
        atoms.get_forces()
        times.append((1e3 * (time.perf_counter() - wall), 1e3 * (time.process_time() - cpu)))
    return times[2:]


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


def nequip_precision(model, dtype):
    """Evaluate in `dtype` whatever the model was trained in: modules keep their output dtype."""
    import torch

    wanted = getattr(torch, dtype)
    if model.model_dtype == wanted:
        return
    for module in model.modules():
        for name in ("_output_dtype", "model_dtype"):
            if isinstance(getattr(module, name, None), torch.dtype):
                setattr(module, name, wanted)
        scale_shift = type(module).__name__ == "PerTypeScaleShift"
        for tensor in [*module.parameters(recurse=False), *module.buffers(recurse=False)]:
            if tensor.is_floating_point() and not scale_shift:  # those stay float64
                tensor.data = tensor.data.to(wanted)


def extract_nequip(path, head):
    """Description and arrays of a NequIP model, .ckpt or .nequip.zip."""
    from nequip.integrations.ase import NequIPCalculator

    model = NequIPCalculator._from_saved_model(path, device="cpu").model
    dtype = str(model.model_dtype).partition(".")[2]
    nequip_precision(model, "float64")
    network = model.model.func
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
    {"evaluate": evaluate, "extract": extract}[sys.argv[1]](*sys.argv[2:])
