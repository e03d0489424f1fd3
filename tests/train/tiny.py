"""The smallest runs that still train: methanol labelled by GFN2-xTB, two layers, four channels."""

from pathlib import Path

import ase.io
import yaml
from tpcalc.train.config import config_from_dict

EXAMPLES = Path(__file__).parents[2] / "examples"
DATA = EXAMPLES / "data" / "xtb_small.xyz"


def methanol(count=30):
    """Labelled isolated atoms and the first `count` snapshots of methanol."""
    frames = ase.io.read(DATA, ":")
    isolated = [f for f in frames if f.info["config_type"] == "isolated"]
    return isolated + [f for f in frames if f.info["config_type"].startswith("meth")][:count]


def settings(**changes):
    """Arguments of a run as plain types; `changes` replace top-level keys."""
    return {
        "potential": {
            "architecture": "nequip",
            "function": "cg",
            "cutoff": 3.5,
            "hidden_irreps": "4x0e+4x1o",
            "lmax": 1,
            "num_layers": 2,
            "radial_hidden": [8],
            "readout_hidden": 4,
        },
        "data": {"train": "train.xyz"},
        "optimizer": {"lr": 0.01, "ema_decay": 0.9},
        "max_epochs": 3,
        "threads": 1,
        "train_variant": "cg/grouped",
        **changes,
    }


def folder_with(folder, frames, **changes):
    """`folder` with train.xyz and train.yaml; returns the path of the YAML file."""
    ase.io.write(folder / "train.xyz", frames, format="extxyz")
    path = folder / "train.yaml"
    path.write_text(yaml.safe_dump(settings(**changes)))
    return path


def config(**changes):
    """The same as a checked `TrainConfig`."""
    return config_from_dict(settings(**changes))
