"""One YAML file = the arguments of a training run; unknown keys are refused.

The dataclasses below are the schema: names, types and defaults stand here and nowhere else.
`potential` is passed to `tpcalc.potential.build_potential`, which checks its own keys.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tpcalc.errors import InputError, check_name


@dataclass
class DataConfig:
    """Labelled structures in extended XYZ. Energies eV, forces eV/Å, stress eV/Å³."""

    train: str
    valid: str | None = None  # None: every 10th frame of `train` is set aside
    test: list[str] = field(default_factory=list)  # for the table at the end
    isolated_atoms: str | None = None  # one-atom frames: the energy shift of each species
    energy_key: str = "REF_energy"
    forces_key: str = "REF_forces"
    stress_key: str = "REF_stress"


@dataclass
class BaselineConfig:
    """Energy shift per species and energy scale; see `tpcalc.train.shifts`."""

    shifts: str = "isolated"  # isolated | least_squares
    scale: str | float = "forces_rms"  # forces_rms | energy_std | a number in eV


@dataclass
class LossConfig:
    """Weights of energy per atom (eV/atom), force components (eV/Å) and stress (eV/Å³).

    Forces shape the surface first; where `late_energy` is set, it replaces `energy` from the
    share `late_from` of the run on, and the best weights are chosen anew from there.
    """

    kind: str = "mse"  # mse | huber
    energy: float = 1.0
    forces: float = 1.0
    stress: float = 0.0
    huber_delta: float = 0.01
    late_energy: float | None = None
    late_from: float = 0.75


@dataclass
class OptimizerConfig:
    """`adam` (amsgrad) or `adamw` (amsgrad, decoupled weight decay)."""

    name: str = "adam"
    lr: float = 0.01
    weight_decay: float = 0.0
    amsgrad: bool = True
    clip_grad_norm: float | None = 10.0
    ema_decay: float = 0.99


@dataclass
class ScheduleConfig:
    """Learning rate over the run.

    `cosine` falls from lr to `final_fraction` * lr as the run goes from 0 to its end, which is
    `max_epochs` or `max_minutes`, whichever share is larger; `exponential` reaches the same
    value on a straight line in log(lr); `plateau` multiplies by `factor` after `patience`
    validations without improvement.
    """

    name: str = "cosine"  # cosine | exponential | plateau | constant
    warmup_steps: int = 0
    final_fraction: float = 0.01
    factor: float = 0.5
    patience: int = 10


@dataclass
class TrainConfig:
    """All arguments of `tpcalc train`. Relative outputs are relative to the YAML file."""

    data: DataConfig
    potential: dict | None = None  # architecture, function, cutoff, ...
    start_from: str | None = None  # or NAME.safetensors to fine-tune: its architecture and weights
    baseline: BaselineConfig = field(default_factory=BaselineConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    output: str = "potential.safetensors"
    run_folder: str = "run"  # checkpoint.pt and log.jsonl
    batch_size: int = 5
    valid_batch_size: int = 25
    max_epochs: int = 100
    max_minutes: float | None = None
    valid_every: int = 1  # epochs
    seed: int = 0
    threads: int | None = None  # of torch; None leaves torch's choice
    device: str = "cpu"
    calibrate: bool = True  # scale the random weights, see tpcalc/train/calibrate.py
    train_variant: str | None = None  # algorithm that trains; must be exact for the function
    licence: str | None = None  # of the weights; stands in the manifest and the card
    citation: str | None = None  # of the data


CHOICES = {
    "loss.kind": ("mse", "huber"),
    "optimizer.name": ("adam", "adamw"),
    "schedule.name": ("cosine", "exponential", "plateau", "constant"),
    "baseline.shifts": ("isolated", "least_squares"),
}
POSITIVE = (
    "batch_size",
    "valid_batch_size",
    "max_epochs",
    "max_minutes",
    "valid_every",
    "threads",
    "optimizer.lr",
    "loss.huber_delta",
)


def load_config(path: str | Path, overrides: list[str] | None = None) -> TrainConfig:
    """Read a YAML file; `overrides` are `key.sub=value` strings that replace its entries.

    Raises:
        InputError: file absent, not YAML, unknown or missing key, wrong type or value.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no training config at {str(path)!r}")
    try:
        raw = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(raw, dict):
        raise InputError(f"{path} must hold `key: value` lines, it holds {type(raw).__name__}")
    for override in overrides or []:
        _override(raw, override)
    return config_from_dict(raw, str(path))


def config_from_dict(raw: dict, where: str = "config") -> TrainConfig:
    """Build and check a `TrainConfig` from plain types."""
    config = _build(TrainConfig, raw, where, "")
    if config.potential is None and config.start_from is None:
        raise InputError(f"{where}: the key 'potential' is missing (or start_from: a trained file)")
    if config.potential is not None and config.start_from is not None:
        raise InputError(
            f"{where}: start_from {config.start_from!r} brings its own architecture; remove the "
            "group 'potential'"
        )
    for name, choices in CHOICES.items():
        check_name(name, _get(config, name), choices)
    for name in POSITIVE:
        value = _get(config, name)
        if value is not None and not value > 0:
            raise InputError(f"{where}: {name} is {value}, it must be larger than 0")
    if not 0 <= config.optimizer.ema_decay < 1:
        raise InputError(
            f"{where}: optimizer.ema_decay is {config.optimizer.ema_decay}, it must be in [0, 1)"
        )
    scale = config.baseline.scale
    if isinstance(scale, str):
        check_name("baseline.scale", scale, ("forces_rms", "energy_std"))
    return config


def config_to_dict(config: TrainConfig) -> dict:
    """Plain types, for the manifest and the checkpoint."""
    return dataclasses.asdict(config)


def _override(raw: dict, override: str) -> None:
    name, found, text = override.partition("=")
    if not found:
        raise InputError(f"override {override!r} is not of the form key=value")
    *groups, last = name.strip().split(".")
    for group in groups:
        raw = raw.setdefault(group, {})
        if not isinstance(raw, dict):
            raise InputError(f"override {override!r}: {group!r} is not a group of keys")
    raw[last] = yaml.safe_load(text)


def _get(config: Any, dotted: str) -> Any:
    for name in dotted.split("."):
        config = getattr(config, name)
    return config


def _build(cls: type, raw: Any, where: str, prefix: str) -> Any:
    """Instance of dataclass `cls` from a mapping, recursively, every key and type checked."""
    if not isinstance(raw, dict):
        raise InputError(f"{where}: {prefix or 'config'} must be a group of keys, got {raw!r}")
    hints = typing.get_type_hints(cls)
    for key in raw:
        kind = f"key in {where}" + (f", group {prefix[:-1]!r}," if prefix else "")
        check_name(kind, key, hints)
    values = {}
    for item in dataclasses.fields(cls):
        hint, name = hints[item.name], prefix + item.name
        if item.name in raw:
            if dataclasses.is_dataclass(hint):
                values[item.name] = _build(hint, raw[item.name], where, name + ".")
            else:
                values[item.name] = _checked(raw[item.name], hint, where, name)
        elif item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING:
            raise InputError(f"{where}: the key {name!r} is missing")
    return cls(**values)


def _checked(value: Any, hint: Any, where: str, name: str) -> Any:
    """`value` if it has the type of the field; whole numbers pass as floats, `1e-3` too."""
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if float in options and isinstance(value, (int, str)) and not isinstance(value, bool):
        try:  # YAML 1.1 reads 1e-3 as a string
            return float(value)
        except ValueError:
            pass
    for option in options:
        origin = typing.get_origin(option) or option
        if isinstance(value, origin) and not (isinstance(value, bool) and origin is not bool):
            return value
    wanted = " or ".join(getattr(option, "__name__", str(option)) for option in options)
    raise InputError(f"{where}: {name} must be {wanted}, got {value!r}")
