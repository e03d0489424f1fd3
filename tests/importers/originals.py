"""The originals: the Pythons that hold their packages, and models made or shipped by them."""

import os
import subprocess
from functools import cache
from pathlib import Path

import pytest
from tpcalc.importers.foreign import PACKAGES

HERE = Path(__file__).parent
DATA = HERE.parents[1] / "examples" / "data" / "xtb_small.xyz"
PUBLISHED = {
    "0": "SevenNet_0__11Jul2024/checkpoint_sevennet_0.pth",
    "l3i5": "SevenNet_l3i5/checkpoint_l3i5.pth",
    "mf_0": "SevenNet_MF_0/checkpoint_sevennet_mf_0.pth",
}


def original_python(package: str) -> str:
    """The interpreter of one of `PACKAGES`; the test is skipped where `make test-import` named
    none."""
    name = f"TPCALC_PYTHON_{package.upper()}"
    if not os.environ.get(name):
        pytest.skip(f"set {name} to a Python that has {PACKAGES[package]}")
    return os.environ[name]


def original_model(package: str, kind: str, folder: Path) -> Path:
    """A model of that package: made by it in `folder`, once, or inside its wheel (SevenNet)."""
    python = original_python(package)
    if package == "sevennet":
        return _weights(python) / PUBLISHED[kind]
    path = folder / f"{kind}.{'model' if package == 'mace' else 'ckpt'}"
    if not path.is_file():
        command = [python, str(HERE / f"make_{package}.py"), kind, str(path)]
        command += [str(DATA)] if package == "nequip" else []
        environment = dict(os.environ, TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD="1")
        environment.pop("PYTHONPATH", None)
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
    return path


@cache
def _weights(python: str) -> Path:
    code = "import sevenn; print(sevenn.__path__[0])"
    out = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    return Path(out.stdout.strip().splitlines()[-1]) / "pretrained_potentials"
