"""One file for a potential: safetensors weights, and a JSON manifest in the header.

    bytes 0-7   length of the header, little endian
    header      JSON: a table name -> dtype, shape, offsets; __metadata__ = {"tpcalc": manifest}
    data        the tensors

Nothing in the file is executed, and everything is checked before it is used. The manifest's
`sha256` covers the rest of the manifest, the table and the data.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from pathlib import Path

import safetensors
import safetensors.torch
import torch

from tpcalc.devices import as_device
from tpcalc.errors import InputError, check_name, did_you_mean
from tpcalc.potential import Potential, build_potential
from tpcalc.tensor_products import default_variant
from tpcalc.tensor_products.symmetric.base import fold_products

FORMAT_VERSION = 1
MAX_FILE_BYTES = 4 * 2**30
MAX_HEADER_BYTES = 32 * 2**20
DTYPES = {"F64": torch.float64, "F32": torch.float32}
DTYPE_NAMES = {"float64": torch.float64, "float32": torch.float32}

# what save_potential writes by itself, with the JSON type of each
REQUIRED = {
    "format_version": int,
    "function": str,
    "config": dict,
    "species": list,
    "cutoff": (int, float),
    "dtype": str,
    "units": str,
    "sha256": str,
}
# what a caller may add
OPTIONAL = {
    "description": str,
    "training": dict,  # provenance: arguments, command, versions, seed, time, hardware
    "licence": str,
    "citation": (str, list),
    "data_sha256": dict,  # file name -> sha256
    "accuracy": (dict, list),  # the table of errors
    "certificates": (dict, list),  # results of `tpcalc verify`
    "created_with": str,
    "imported": dict,  # file, format and sha256 of the original; its results on probe structures
}


def save_potential(potential: Potential, path, manifest_extra: dict | None = None, **extra) -> Path:
    """Write `path` in one stroke (a temporary file beside it, then a rename).

    Args:
        potential: weights, architecture and, where it was loaded, its manifest, which is kept.
        path: NAME.safetensors; its folder must exist.
        manifest_extra, **extra: entries of the manifest, the keys of `OPTIONAL`.

    Raises:
        InputError: an unknown key, a value JSON cannot hold, weights that are not finite.
    """
    path = Path(path)
    manifest = {k: v for k, v in getattr(potential, "manifest", {}).items() if k in OPTIONAL}
    for key, value in {**(manifest_extra or {}), **extra}.items():
        manifest[check_name("key of the manifest", key, OPTIONAL)] = value
    manifest |= {
        "format_version": FORMAT_VERSION,
        "function": potential.config["function"],
        "config": potential.config,
        "species": list(potential.species),
        "cutoff": potential.cutoff,
        "dtype": str(potential.dtype).removeprefix("torch."),
        "units": "eV, Å",
    }
    tensors = {k: v.detach().cpu().contiguous() for k, v in potential.state_dict().items()}
    _check_finite(tensors, path)
    table, data = _split(safetensors.torch.save(tensors))
    try:
        manifest["sha256"] = _digest(manifest, table, data)
        text = _canonical(manifest)
    except (TypeError, ValueError) as error:
        raise InputError(f"the manifest of {path} is not plain JSON: {error}") from error
    _write(path, safetensors.torch.save(tensors, {"tpcalc": text}))
    return path


def update_manifest(path, **changes) -> Path:
    """Change entries of a stored manifest (keys of `OPTIONAL`); the weights stay as they are."""
    reference = f"{read_manifest(path)['function']}/reference"
    return save_potential(load_potential(path, reference), path, changes)


def load_potential(
    path, variant: str | None = None, dtype: str | torch.dtype | None = None, device="cpu"
) -> Potential:
    """Read, check and build a potential; `.manifest` holds what the file says about itself.

    Args:
        path: NAME.safetensors.
        variant: algorithm to run it with; None takes `default_variant` of its function.
        dtype: "float32" or "float64"; None takes the dtype it was stored in.
        device: anything torch accepts.

    Raises:
        InputError: one sentence on what is wrong with the file or the arguments.
    """
    device = as_device(device)
    path = Path(path)
    raw = _read(path)
    table, data = _split(raw, path)
    manifest = _manifest(path, raw)
    if manifest["sha256"] != _digest(manifest, table, data):
        raise InputError(
            f"{path} was altered after it was written (sha256 differs); fetch or train it again"
        )
    for name, entry in table.items():
        if entry.get("dtype") not in DTYPES:
            raise InputError(
                f"{path}: tensor {name!r} has dtype {entry.get('dtype')!r}; "
                f"allowed: {', '.join(DTYPES)}"
            )
    try:
        tensors = safetensors.torch.load(raw)
    except safetensors.SafetensorError as error:
        raise InputError(f"{path} is damaged ({error}); fetch or train it again") from error
    _check_finite(tensors, path)
    potential = _build(path, manifest, variant)
    _check_shapes(path, tensors, potential.state_dict())
    potential.load_state_dict(tensors)
    potential.set_dtype(as_dtype(dtype if dtype is not None else manifest["dtype"]))
    potential.manifest = manifest
    potential = potential.to(device).eval().requires_grad_(False)
    fold_products(potential)
    return potential


def as_dtype(dtype: str | torch.dtype) -> torch.dtype:
    """`torch.float32` or `torch.float64` from either or its name."""
    if isinstance(dtype, torch.dtype):
        dtype = str(dtype).removeprefix("torch.")
    return DTYPE_NAMES[check_name("dtype", dtype, DTYPE_NAMES)]


def read_manifest(path) -> dict:
    """The manifest alone, with its schema checked; the weights are not looked at."""
    return _manifest(Path(path), _read(Path(path)))


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise InputError(f"no potential at {path}; a NAME.safetensors file is needed")
    size = path.stat().st_size
    if size == 0:
        raise InputError(f"{path} is empty (0 bytes); fetch or train it again")
    if size > MAX_FILE_BYTES:
        raise InputError(f"{path} has {size} bytes; more than {MAX_FILE_BYTES} are not read")
    raw = path.read_bytes()
    if raw[:4] == b"PK\x03\x04":
        raise InputError(
            f"{path} is a zip archive (an exported TorchScript file?); "
            "give the NAME.safetensors it was made from"
        )
    return raw


def _split(raw: bytes, path: Path | None = None) -> tuple[dict, memoryview]:
    """Table of tensors (without metadata) and data of a safetensors file."""
    header = _header(raw, path)
    header.pop("__metadata__", None)
    length = struct.unpack("<Q", raw[:8])[0]
    data = memoryview(raw)[8 + length :]
    try:
        expected = max((int(entry["data_offsets"][1]) for entry in header.values()), default=0)
    except (TypeError, KeyError, IndexError, ValueError) as error:
        raise InputError(f"{path} has a damaged table of tensors; fetch it again") from error
    if len(data) != expected:
        raise InputError(
            f"{path} holds {len(data)} bytes of tensors, its header promises {expected}; "
            "it was cut short or appended to, fetch it again"
        )
    return header, data


def _header(raw: bytes, path: Path | None) -> dict:
    length = struct.unpack("<Q", raw[:8])[0] if len(raw) >= 8 else -1
    if length > MAX_HEADER_BYTES and raw[8:9] == b"{":
        raise InputError(f"{path} has a header of {length} bytes; more than {MAX_HEADER_BYTES}")
    if length < 2 or raw[8:9] != b"{":
        raise InputError(f"{path} is not a safetensors file; it starts with {raw[:8]!r}")
    if len(raw) < 8 + length:
        raise InputError(
            f"{path} has {len(raw)} bytes, its header alone needs {8 + length}; "
            "it was cut short, fetch it again"
        )
    try:
        header = json.loads(raw[8 : 8 + length])
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} has a header that is not JSON ({error})") from error
    return header


def _manifest(path: Path, raw: bytes) -> dict:
    """The manifest with its schema checked."""
    metadata = _header(raw, path).get("__metadata__") or {}
    if "tpcalc" not in metadata:
        raise InputError(
            f"{path} is a safetensors file without a tpcalc manifest; "
            "foreign models are read by `tpcalc import`"
        )
    try:
        manifest = json.loads(metadata["tpcalc"])
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: its manifest is not JSON ({error})") from error
    if not isinstance(manifest, dict):
        raise InputError(f"{path}: its manifest is a {type(manifest).__name__}, not an object")
    version = manifest.get("format_version")
    if version != FORMAT_VERSION:
        raise InputError(
            f"{path} has format version {version!r}, this tpcalc reads {FORMAT_VERSION}; "
            "a newer file needs a newer tpcalc"
        )
    for key in REQUIRED:
        if key not in manifest:
            raise InputError(f"{path}: its manifest lacks {key!r}")
    schema = REQUIRED | OPTIONAL
    for key, value in manifest.items():
        if key not in schema:
            raise InputError(
                f"{path}: unknown key {key!r} in its manifest{did_you_mean(key, schema)}"
            )
        if not isinstance(value, schema[key]):
            raise InputError(f"{path}: {key!r} in its manifest is a {type(value).__name__}")
    return manifest


def _build(path: Path, manifest: dict, variant: str | None) -> Potential:
    config = manifest["config"]
    for key in ("function", "species", "cutoff"):
        if config.get(key) != manifest[key]:
            raise InputError(
                f"{path}: the manifest's {key} {manifest[key]!r} is not the "
                f"config's {config.get(key)!r}"
            )
    largest = max(_numbers(config), default=0)
    if largest > 1e6:
        raise InputError(f"{path}: its config holds {largest:g}; more than 1e6 is not built")
    check_name("dtype", manifest["dtype"], DTYPE_NAMES)
    try:
        with torch.random.fork_rng(devices=[]):  # the user's random numbers stay as they were
            potential = build_potential(config)
            return potential.swap(variant or default_variant(manifest["function"]))
    except InputError:
        raise
    except (TypeError, ValueError, KeyError, AttributeError, RuntimeError) as error:
        raise InputError(f"{path}: its config cannot be built ({error})") from error


def _numbers(value):
    """The sizes a config could ask for; energies (shifts, scale) aside."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key not in ("shifts", "scale"):
                yield from _numbers(item)
    elif isinstance(value, list):
        for item in value:
            yield from _numbers(item)
    elif isinstance(value, (int, float)):
        yield abs(value)


def _check_shapes(path: Path, tensors: dict, expected: dict) -> None:
    for name in tensors:
        if name not in expected:
            raise InputError(f"{path}: unknown tensor {name!r}{did_you_mean(name, expected)}")
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape:
            raise InputError(
                f"{path}: tensor {name!r} has shape {list(tensor.shape)}, "
                f"the architecture needs {list(expected[name].shape)}"
            )
    for name in expected:
        if name not in tensors:
            raise InputError(f"{path}: tensor {name!r} is missing")


def _check_finite(tensors: dict, path: Path) -> None:
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise InputError(f"{path}: tensor {name!r} holds values that are not finite")


def _canonical(value) -> str:
    return json.dumps(value, sort_keys=True, allow_nan=False, separators=(",", ":"))


def _digest(manifest: dict, table: dict, data) -> str:
    rest = {k: v for k, v in manifest.items() if k != "sha256"}
    digest = hashlib.sha256(_canonical([rest, table]).encode())
    digest.update(data)
    return digest.hexdigest()


def _write(path: Path, raw: bytes) -> None:
    if not path.parent.is_dir():
        raise InputError(f"no folder {path.parent} to write {path.name} into")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
