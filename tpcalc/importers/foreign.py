"""Foreign packages in a Python of their own: what they compute, and their weights as arrays."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from ase import Atoms

from tpcalc.errors import InputError, MissingDependency, check_name
from tpcalc.importers.probes import as_plain

# kind -> what `pip install` needs beyond torch
PACKAGES = {
    "mace": "mace-torch==0.3.16", "sevennet": "sevenn==0.13.0", "nequip": "nequip==0.19.0",
    "symmetrix": "mace-torch==0.3.16 symmetrix-xl==0.1.1",  # mace: it reads .model files by it
}  # fmt: skip
TORCH = "torch==2.13.0"  # first and alone, so that the CPU or CUDA build stays the one chosen
_TIMEOUT = 3600


def environments() -> Path:
    """Where `tpcalc import --make-env` puts its environments."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tpcalc" / "envs"


def make_environment(kind: str) -> Path:
    """A virtual environment with the foreign package; returns its Python, kept if it works.

    Raises:
        InputError: unknown package.
        MissingDependency: pip could not install it, with its last lines.
    """
    check_name("package", kind, PACKAGES)
    folder = environments() / kind
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    if (folder / ".complete").is_file():
        return python
    _call([sys.executable, "-m", "venv", "--clear", str(folder)], kind)
    for package in (TORCH, *PACKAGES[kind].split()):
        _call([str(python), "-m", "pip", "install", "--quiet", package], kind)
    (folder / ".complete").touch()
    return python


def find_python(kind: str, python: str | None) -> Path | None:
    """The interpreter to use: the one named, else one made before, else None.

    Raises:
        InputError: the named one does not exist.
    """
    if python is None:
        made = environments() / kind
        return make_environment(kind) if (made / ".complete").is_file() else None
    if not Path(python).is_file():
        raise InputError(f"--python {python} is not a file; name the interpreter, .../bin/python")
    return Path(python)


def evaluate_original(path, kind: str, structures: list[Atoms], python, head: str | None = None,
                      dtype: str = "float64") -> list[dict]:  # fmt: skip
    """The original's results, one dict a structure: energy (eV), forces, stress.

    Executes the pickle in `path`; the caller has asked for trust.
    """
    request = {"structures": [as_plain(atoms) for atoms in structures], "dtype": dtype}
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder, "in.json"), Path(folder, "out.json")
        source.write_text(json.dumps(request))
        arguments = ["original_worker.py", kind, str(path), str(source), str(out)]
        _worker(python, arguments + ([head] if head else []), kind)
        results = json.loads(out.read_text())
    for result in results:
        for key in ("forces", "stress"):
            if key in result:
                result[key] = np.array(result[key])
    return results


def extract(path, kind: str, python, head: str | None = None) -> tuple[dict, dict]:
    """(description, arrays) of a foreign model; executes its pickle in the other Python."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "out.npz")
        arguments = ["original_extract.py", kind, str(path), str(out)]
        _worker(python, arguments + ([head] if head else []), kind)
        return read_handover(out)


def read_handover(path) -> tuple[dict, dict[str, np.ndarray]]:
    """(description, arrays) from an .npz of the worker; no pickle is read."""
    with np.load(path, allow_pickle=False) as stored:
        arrays = {key: stored[key] for key in stored.files}
    description = json.loads(str(arrays.pop("__description__")))
    return description, arrays


def worker_environment(threads: int = 1, ours: bool = False) -> dict[str, str]:
    """Of a process of another Python; our packages must not reach it unless it runs `ours`."""
    environment = dict(os.environ, OMP_NUM_THREADS=str(threads), CUDA_VISIBLE_DEVICES="")
    if not ours:
        environment.pop("PYTHONPATH", None)
    # e3nn 0.4.4 reads its own constants in a way that torch >= 2.6 refuses by default
    environment["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] = "1"
    return environment


def _worker(python, arguments: list[str], kind: str) -> None:
    script = Path(__file__).with_name(arguments[0])
    _call([str(python), str(script), *arguments[1:]], kind, worker_environment())


def _call(command: list[str], kind: str, environment: dict | None = None) -> None:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=_TIMEOUT, env=environment, check=False
    )
    if done.returncode:
        tail = " | ".join((done.stderr or done.stdout).strip().splitlines()[-3:])
        raise MissingDependency(
            f"{kind}: `{' '.join(command[:4])} ...` failed: {tail} "
            f"(an environment of its own: tpcalc import --make-env {kind})"
        )
