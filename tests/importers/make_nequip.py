"""Runs in a Python that has nequip: models trained by nequip itself, for seconds.

python make_nequip.py KIND OUT.ckpt DATA.xyz

DATA.xyz is examples/data/xtb_small.xyz (H C N O; keys REF_energy, REF_forces).
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path

ELEMENTS = ["H", "C", "N", "O"]
SHIFTS = {"H": -10.7, "C": -48.8, "N": -71.0, "O": -102.6}
ZBL = {
    "_target_": "nequip.nn.pair_potential.ZBL", "units": "metal", "chemical_species": ELEMENTS,
}  # fmt: skip
MODELS = {
    "tiny_parity": {
        "num_layers": 3, "l_max": 2, "parity": True, "num_features": [4, 3, 2], "num_bessels": 4,
        "radial_mlp_width": 6, "type_embed_num_features": 5, "bessel_trainable": True,
        "per_type_energy_scales": {"H": 0.5, "C": 1.0, "N": 0.7, "O": 2.0}, "pair_potential": ZBL,
    },
    "tiny_plain": {
        "num_layers": 2, "l_max": 1, "parity": False, "num_features": 4, "num_bessels": 4,
        "radial_mlp_depth": 2, "radial_mlp_width": 6, "readout_mlp_hidden_layers_depth": 1,
        "per_type_energy_scales": 1.3, "polynomial_cutoff_p": 5,
    },
    # presets of the package are parity False with falling multiplicities
    "trained": {
        "num_layers": 3, "l_max": 3, "parity": False, "num_features": [16, 8, 8, 4],
        "radial_mlp_width": 32,
    },
    "trained_float32": {
        "num_layers": 2, "l_max": 2, "parity": True, "num_features": 8, "model_dtype": "float32",
        "pair_potential": ZBL,
    },
    # the row of docs/peers.md
    "bench": {
        "num_layers": 3, "l_max": 2, "parity": False, "num_features": 32, "radial_mlp_depth": 2,
        "radial_mlp_width": 64, "model_dtype": "float32",
    },
}  # fmt: skip


def config(kind, data, folder):
    """What nequip-train reads."""
    model = {
        "_target_": "nequip.model.NequIPGNNModel", "seed": 1, "model_dtype": "float64",
        "type_names": ELEMENTS, "r_max": 5.0 if kind == "bench" else 4.0,
        "avg_num_neighbors": 9.0, "per_type_energy_scales": 1.0, "per_type_energy_shifts": SHIFTS,
        **MODELS[kind],
    }  # fmt: skip
    transforms = [
        {"_target_": "nequip.data.transforms.ChemicalSpeciesToAtomTypeMapper",
         "model_type_names": ELEMENTS},
        {"_target_": "nequip.data.transforms.NeighborListTransform", "r_max": model["r_max"]},
    ]  # fmt: skip
    loader = {"_target_": "torch.utils.data.DataLoader", "batch_size": 5}
    coefficients = {"total_energy": 1.0, "forces": 1.0}
    return {
        "run": ["train"],
        "data": {
            "_target_": "nequip.data.datamodule.ASEDataModule", "seed": 1,
            "split_dataset": {"file_path": str(data), "train": 40, "val": 5, "test": 159},
            "key_mapping": {"REF_energy": "total_energy", "REF_forces": "forces"},
            "transforms": transforms, "train_dataloader": loader, "val_dataloader": loader,
        },
        "trainer": {
            "_target_": "lightning.Trainer", "accelerator": "cpu", "max_epochs": 2,
            "logger": False, "enable_progress_bar": False,
            "callbacks": [{
                "_target_": "lightning.pytorch.callbacks.ModelCheckpoint",
                "dirpath": str(folder), "save_last": True,
            }],
        },
        "training_module": {
            "_target_": "nequip.train.NequIPLightningModule",
            "loss": {"_target_": "nequip.train.EnergyForceLoss", "coeffs": coefficients},
            "val_metrics": {
                "_target_": "nequip.train.EnergyForceMetrics",
                "coeffs": {"total_energy_mae": 1.0, "forces_mae": 1.0},
            },
            "optimizer": {"_target_": "torch.optim.Adam", "lr": 0.01}, "model": model,
        },
        "global_options": {"allow_tf32": False},
    }  # fmt: skip


def train(kind, out, data):
    """Two epochs of nequip-train; the last checkpoint goes to `out`."""
    from nequip.scripts.train import main

    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder, "config.yaml")  # JSON is YAML
        settings.write_text(json.dumps(config(kind, Path(data).resolve(), folder)))
        sys.argv = ["nequip-train", "-cp", folder, "-cn", "config", f"hydra.run.dir={folder}/log"]
        main()
        shutil.copy(Path(folder, "last.ckpt"), out)


if __name__ == "__main__":
    train(*sys.argv[1:])
