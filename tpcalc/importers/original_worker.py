"""Runs in the Python of a foreign package; imports nothing of tpcalc.

    python original_worker.py KIND FILE STRUCTURES.json OUT.json [HEAD]

Puts the original's energies, forces, stresses into OUT.json. Executes FILE's pickle.
"""

import json
import sys
from pathlib import Path

import numpy as np


def calculator(kind, path, head, dtype, form=None):
    """The package's own ASE calculator; `form` is one of symmetrix' two evaluators, or our mode."""
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
    if kind == "symmetrix":
        from symmetrix import Symmetrix

        serial = {"use_kokkos": False, "streamed_edges": "materialized"}
        return Symmetrix(path, dtype=dtype, head=head, **(serial if form == "serial" else {}))
    if kind == "e3nn":  # ours, by e3nn's products: for models whose own package is not at hand
        from tpcalc import TPCalculator

        return TPCalculator(path, "cg/e3nn", dtype=dtype, mode=form or "eager")
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
    """Energies (eV), forces (eV/Å), stress (eV/Å^3, Voigt, of periodic ones) into OUT.json."""
    request = json.loads(Path(source).read_text())
    import torch

    torch.set_num_threads(1)
    calc = calculator(kind, path, head, request["dtype"])
    results = []
    for atoms in structures(source):
        atoms.calc = calc
        entry = {"energy": float(atoms.get_potential_energy())}
        entry["forces"] = np.asarray(atoms.get_forces(), dtype=float).tolist()
        if atoms.pbc.all():
            entry["stress"] = np.asarray(atoms.get_stress(), dtype=float).tolist()
        results.append(entry)
    Path(out).write_text(json.dumps(results))


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


if __name__ == "__main__":
    sys.path.pop(0)  # this folder: its mace.py is not the package
    evaluate(*sys.argv[1:])
