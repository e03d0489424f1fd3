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

        return SevenNetCalculator(path, device="cpu")
    if kind == "nequip":
        from nequip.ase import NequIPCalculator

        return NequIPCalculator.from_compiled_model(path, device="cpu")
    raise SystemExit("no calculator for " + kind)


def structures(path):
    """ASE atoms from the JSON list of numbers, positions, cell, pbc."""
    from ase import Atoms

    return [Atoms(**entry) for entry in json.loads(Path(path).read_text())["structures"]]


def evaluate(kind, path, source, out, head=None):
    """Energies (eV), forces (eV/Å), stress (eV/Å^3, where there is a volume); ms a call."""
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
            entry["stress"] = np.asarray(atoms.get_stress(voigt=False), dtype=float).tolist()
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


def extract(kind, path, out, head=None):
    """Arrays and description into OUT.npz."""
    description, arrays = {"mace": extract_mace}[kind](path, head)
    np.savez(out, __description__=np.array(json.dumps(description)), **arrays)


if __name__ == "__main__":
    sys.path.pop(0)  # this folder: its mace.py is not the package
    {"evaluate": evaluate, "extract": extract}[sys.argv[1]](*sys.argv[2:])
