"""Runs in a Python that has mace: random models at published hyperparameters.

python make_mace.py KIND OUT.model
"""

import sys

import numpy as np
import torch
from e3nn import o3
from mace import modules
from mace.modules import blocks

ORGANIC = [1, 6, 7, 8, 9, 15, 16, 17, 35, 53]  # the ten elements of MACE-OFF23
MODELS = {
    "off_small": {"hidden_irreps": "96x0e", "r_max": 4.5, "z": ORGANIC},
    "off_medium": {"hidden_irreps": "128x0e+128x1o", "r_max": 5.0, "z": ORGANIC},
    "mpa_medium": {
        "hidden_irreps": "128x0e+128x1o", "r_max": 6.0, "z": [*range(1, 84), *range(89, 95)],
        "num_bessel": 10, "density": True, "distance_transform": "Agnesi", "pair_repulsion": True,
    },
    "tiny_density": {
        "hidden_irreps": "4x0e+4x1o", "r_max": 4.0, "z": [1, 8, 14], "max_ell": 2,
        "num_bessel": 4, "density": True, "distance_transform": "Agnesi", "pair_repulsion": True,
        "radial_mlp": [8], "mlp": "4x0e",
    },
    "tiny_heads": {
        "radial_mlp": [8], "mlp": "4x0e", "num_bessel": 4,
        "hidden_irreps": "4x0e+4x1o", "r_max": 4.0, "z": [1, 8, 14], "heads": ["pbe", "scan"],
        "apply_cutoff": False, "correlation": 2, "max_ell": 2, "first": "Residual",
    },
}  # fmt: skip


def build(kind):
    """A ScaleShiftMACE, float64; the readouts are scaled so that forces are of order 1."""
    options = dict(MODELS[kind])
    torch.manual_seed(3)
    density = "Density" if options.get("density") else ""
    name = "RealAgnostic" + density
    first = getattr(blocks, f"{name}{options.get('first', '')}InteractionBlock")
    other = getattr(blocks, f"{name}ResidualInteractionBlock")
    heads = options.get("heads")
    energies = np.linspace(-5.0, -1.0, len(options["z"]))
    if heads:
        energies = np.stack([energies, energies - 1])
    model = modules.ScaleShiftMACE(
        r_max=options["r_max"], num_bessel=options.get("num_bessel", 8),
        num_polynomial_cutoff=5, max_ell=options.get("max_ell", 3), interaction_cls=other,
        interaction_cls_first=first, num_interactions=2, num_elements=len(options["z"]),
        hidden_irreps=o3.Irreps(options["hidden_irreps"]),
        MLP_irreps=o3.Irreps(options.get("mlp", "16x0e")),
        atomic_energies=energies, avg_num_neighbors=12.0, atomic_numbers=options["z"],
        correlation=options.get("correlation", 3), gate=torch.nn.functional.silu,
        pair_repulsion=options.get("pair_repulsion", False),
        distance_transform=options.get("distance_transform", "None"),
        apply_cutoff=options.get("apply_cutoff", True),
        radial_MLP=options.get("radial_mlp", [64, 64, 64]),
        heads=heads, atomic_inter_scale=[0.7, 0.8] if heads else 0.7,
        atomic_inter_shift=[0.1, 0.2] if heads else 0.1,
    )  # fmt: skip
    with torch.no_grad():  # fresh weights make forces of 1e-4 eV/Å, too small to compare by
        for name, parameter in model.named_parameters():
            if name.startswith(("readouts", "products")):
                parameter.mul_(4.0)
    return model


if __name__ == "__main__":
    torch.set_default_dtype(torch.float64)
    torch.save(build(sys.argv[1]), sys.argv[2])
