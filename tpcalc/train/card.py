"""Writes the card of a trained potential, and what it predicts for our own structures.

    python -m tpcalc.train.card models/DATASET-FUNCTION [--structure examples/DATASET.xyz]

Everything in `models/NAME/README.md` comes from the manifest inside
`models/NAME/potential.safetensors`; `models/NAME/predictions.json` holds energies and forces of
the structure and of moved copies of it, float64, by the function's reference algorithm.
`models/NAME/properties.md`, where it exists, is carried into the card as it is.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms

from tpcalc.calculator import TPCalculator
from tpcalc.errors import InputError, TpcalcError
from tpcalc.storage import load_potential, update_manifest
from tpcalc.train.config import config_to_dict, load_config
from tpcalc.train.evaluate import UNITS, overall

TITLES = {"energy_per_atom": "E/atom", "energy": "E", "forces": "F", "stress": "stress"}
MOVED = 0.05  # Å, standard deviation of the moved copies
COPIES = 3


def write_card(folder: Path, structure: Path) -> list[Path]:
    """Write README.md and predictions.json into `folder`; returns their paths.

    Raises:
        InputError: no readable potential there, a manifest without `training` and `accuracy`,
            or a structure with an element the potential does not know.
    """
    path = folder / "potential.safetensors"
    potential = load_potential(path, dtype="float64")
    for key in ("training", "accuracy"):
        if key not in potential.manifest:
            raise InputError(f"the manifest of {path} lacks {key!r}; write it with `tpcalc train`")
    text = card_text(potential, folder, path.stat().st_size)
    predictions = json.dumps(predict(path, structures(structure))) + "\n"
    paths = [folder / "README.md", folder / "predictions.json"]
    for target, content in zip(paths, (text, predictions)):
        temporary = target.with_name(target.name + ".part")
        temporary.write_text(content, encoding="utf-8")
        os.replace(temporary, target)
    return paths


def default_structure(folder: Path) -> Path:
    """examples/DATASET.xyz beside models/, for the folder models/DATASET-FUNCTION."""
    folder = folder.resolve()
    return folder.parents[1] / "examples" / f"{folder.name.split('-')[0]}.xyz"


def structures(path: Path) -> list[Atoms]:
    """The structure in `path`, and `COPIES` of it with every coordinate moved, seeded."""
    if not path.is_file():
        raise InputError(f"no structure at {path}; name one with --structure")
    rest = ase.io.read(path)
    moved = [rest.copy() for _ in range(COPIES)]
    for seed, atoms in enumerate(moved):
        rng = np.random.default_rng(seed)
        atoms.positions += rng.normal(scale=MOVED, size=(len(atoms), 3))
    return [rest, *moved]


def predict(path: Path, frames: list[Atoms]) -> list[dict]:
    """energy_eV and forces_eV_A of each structure, float64, reference algorithm."""
    calculator = TPCalculator(path, dtype="float64")
    calculator.swap(f"{calculator.potential.config['function']}/reference")
    return [
        {"energy_eV": r["energy"], "forces_eV_A": np.round(r["forces"], 10).tolist()}
        for r in calculator.evaluate(frames)
    ]


def accuracy_rows(manifest: dict) -> dict[str, dict]:
    """Errors of each data set and config_type, in the order of the training's arguments."""
    tests = [Path(name).stem for name in manifest["training"]["config"]["data"]["test"]]
    return {
        name if len(groups) == 1 else f"{name}, {kind}": row
        for name, groups in ((name, manifest["accuracy"][name]) for name in ["valid", *tests])
        for kind, row in groups.items()
    }


def accuracy_table(rows: dict[str, dict]) -> str:
    """Markdown: a line per row; RMSE and MAE of what was labelled."""
    shown = [q for q in UNITS if any(f"{q}_rmse" in row for row in rows.values())]
    header = ["data", "frames"]
    header += [f"{TITLES[q]} {kind} {UNITS[q][0]}" for q in shown for kind in ("RMSE", "MAE")]
    lines = ["| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
    for name, row in rows.items():
        cells = [name, str(row["frames"])]
        for value in (row.get(f"{q}_{kind}") for q in shown for kind in ("rmse", "mae")):
            cells.append("" if value is None else f"{value:.2f}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def command(folder: Path, config: dict) -> str:
    """The command that trains it: the YAML file, and `--set` where the manifest differs."""
    shown = f"models/{folder.resolve().name}/train.yaml"
    if not (folder / "train.yaml").is_file():
        raise InputError(f"{folder} lacks train.yaml, the arguments that made the potential")
    written = _flat(config_to_dict(load_config(folder / "train.yaml")))
    words = ["tpcalc", "train", shown]
    for key, value in _flat(config).items():
        if key in written and written[key] != value:
            words += ["--set", f"{key}={json.dumps(value)}"]
    return shlex.join(words)


def card_text(potential: Any, folder: Path, size: int) -> str:
    """The card, in Markdown."""
    manifest = potential.manifest
    config, training = manifest["config"], manifest["training"]
    weights = sum(p.numel() for p in potential.parameters())
    data = training["config"]["data"]
    checksums = [f"| {name} | `{sha}` |" for name, sha in manifest.get("data_sha256", {}).items()]
    citation = manifest.get("citation", "not stated")
    parts = [
        f"# {folder.resolve().name}",
        f"A `{config['architecture']}` potential with the tensor product `{manifest['function']}` "
        f"for {', '.join(manifest['species'])}, trained on {training['train_frames']} frames of "
        f"`{data['train']}`. Written by `python -m tpcalc.train.card`; do not edit.",
        *([manifest["description"]] if manifest.get("description") else []),
        "## Size",
        f"{weights} weights, {size / 1024:.0f} KiB, {potential.num_layers} layers, cutoff "
        f"{manifest['cutoff']} Å, hidden irreps `{config['hidden_irreps']}`, lmax "
        f"{config['lmax']}, stored in {manifest['dtype']}.",
        "## Accuracy",
        accuracy_table(accuracy_rows(manifest)),
        *_properties(folder),
        "## How it was made",
        f"```sh\n{command(folder, training['config'])}\n```",
        _budget(training),
        *_start(training),
        "| file | sha256 |\n|---|---|\n" + "\n".join(checksums),
        "## Data and licence",
        f"Weights: {manifest.get('licence', 'not stated')}. "
        f"Data: {citation if isinstance(citation, str) else '; '.join(citation)}.",
        "## What it is not good for",
        _limits(potential),
    ]
    if manifest.get("certificates"):
        parts += ["## Certificate", _certificate(manifest["certificates"])]
    return "\n\n".join(parts) + "\n"


def _properties(folder: Path) -> list[str]:
    """What scripts measured with the potential (`examples/lammps/*.py`), where they have run."""
    path = folder / "properties.md"
    return [path.read_text(encoding="utf-8").strip()] if path.is_file() else []


def _budget(training: dict) -> str:
    cpu = training.get("cpu_minutes")
    time = f"{training['minutes']:.1f} min by the clock"
    if cpu is not None:
        time = f"{cpu:.1f} min of CPU time, {time}"
    versions = ", ".join(f"{name} {v}" for name, v in training["versions"].items())
    return (
        f"{training['epochs']} epochs, {training['steps']} steps of "
        f"{training['config']['batch_size']} frames, {time}, threads: {training['threads']} "
        f"({training['machine']}; {training['date']}; {versions}). Seed {training['seed']}, "
        f"trained with `{training['variant']}`; the weights are those of epoch "
        f"{training['best_epoch']}, the best of {training['valid_frames']} validation frames."
    )


def _start(training: dict) -> list[str]:
    """Where the weights came from, if they were not random."""
    if "started_from" not in training:
        return []
    start = training["started_from"]
    text = f"Started from `{start['file']}` (sha256 `{start['sha256'][:16]}...`)"
    if "train" in start:
        cpu = start["cpu_minutes"]
        time = "" if cpu is None else f", {cpu:.1f} min of CPU time"
        text += (
            f", which was trained on {start['train_frames']} frames of `{start['train']}`: "
            f"{start['epochs']} epochs, {start['steps']} steps{time}"
        )
    return [text + "."]


def _limits(potential: Any) -> str:
    """Plain warnings that follow from what the manifest says, and only those."""
    manifest = potential.manifest
    tests = {k: overall(v) for k, v in manifest["accuracy"].items() if k != "valid"}
    forces = {k: row["forces_rmse"] for k, row in tests.items() if "forces_rmse" in row}
    reach = manifest["cutoff"] * potential.num_layers
    lines = [
        f"- Other elements than {', '.join(manifest['species'])}: refused.",
        f"- Structures unlike the {manifest['training']['train_frames']} training frames: other "
        "molecules, densities, charges or spin states, broken bonds. Nothing warns; a committee "
        "(`TPCalculator([a, b])`) shows where potentials disagree.",
        f"- Interactions beyond {manifest['cutoff']} Å a layer ({reach:g} Å in all): there is no "
        "long-range electrostatics or dispersion.",
    ]
    if len(forces) > 1:
        low, high = min(forces, key=forces.get), max(forces, key=forces.get)
        lines.append(
            f"- `{high}`: forces are wrong by {forces[high]:.0f} meV/Å there, against "
            f"{forces[low]:.0f} on `{low}`."
        )
    if not manifest["training"]["config"]["loss"]["stress"]:
        lines.append("- Pressure and cells: stress was not trained.")
    return "\n".join(lines)


def _certificate(certificate: dict) -> str:
    """Which algorithms agree with the reference, from the result of `tpcalc verify`."""
    dtypes = {}
    for row in certificate["rows"]:
        dtypes.setdefault(row["variant"], []).append(row["dtype"])
    names = ", ".join(f"`{name}` ({', '.join(which)})" for name, which in dtypes.items())
    verdict = "agree" if certificate["passed"] else "do NOT all agree"
    return (
        f"`tpcalc verify --store`, {certificate['date']}, {certificate['machine']}, "
        f"{certificate['device']}: energies, forces and stress {verdict} with the "
        f"reference: {names}."
    )


def _flat(config: dict, prefix: str = "") -> dict[str, Any]:
    flat = {}
    for key, value in config.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def main(arguments: list[str] | None = None) -> int:
    """Write the cards of the folders named; returns an exit code."""
    parser = argparse.ArgumentParser(prog="python -m tpcalc.train.card", description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path, help="models/NAME")
    parser.add_argument("--description", help="paragraph to store in the manifest first")
    parser.add_argument(
        "--structure", type=Path, help="default: examples/DATASET.xyz beside models/"
    )
    args = parser.parse_args(arguments)
    for folder in args.folders:
        try:
            if args.description:
                update_manifest(folder / "potential.safetensors", description=args.description)
            paths = write_card(folder, args.structure or default_structure(folder))
        except TpcalcError as error:
            print(f"tpcalc.train.card: {error}", file=sys.stderr)
            return error.exit_code
        print("\n".join(map(str, paths)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
