"""Where the compiled pair style lies. The `lmp` command imports this file: standard library only.

The folder's name holds everything the compiled code depends on, so a new torch, LAMMPS or tpcalc
leads to "run `tpcalc build`" and never to a crash.
"""

from __future__ import annotations

import hashlib
import os
import sys
from importlib import metadata
from pathlib import Path

PLUGIN = "tpcalcplugin.so"  # LAMMPS loads every *plugin.so of the folder
OPS = "libtpcalc_ops.so"  # the tensor-product kernels, loaded by the plugin from beside it
SOURCES = Path(__file__).parent / "plugin"
KERNEL_SOURCES = Path(__file__).parents[1] / "kernels"
_SUFFIXES = {".cpp", ".h", ".inc", ".cu"}


def cache_root() -> Path:
    """The folder of everything that tpcalc compiles: TPCALC_CACHE, or ~/.cache/tpcalc."""
    return Path(os.environ.get("TPCALC_CACHE") or Path.home() / ".cache" / "tpcalc")


def _hash(folder: Path) -> str:
    """12 hexadecimal digits over the C++ sources in a folder."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.suffix in _SUFFIXES):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def plugin_folder() -> Path:
    """Where the pair style for the installed torch and LAMMPS is compiled.

    Raises:
        importlib.metadata.PackageNotFoundError: torch or lammps is not installed.
    """
    versions = f"torch-{metadata.version('torch')}_lammps-{metadata.version('lammps')}"
    place = hashlib.sha256(sys.prefix.encode()).hexdigest()[:6]  # the path of libtorch is inside
    return cache_root() / "lammps" / f"{versions}_{_hash(SOURCES)}_{place}"


def built_directory() -> Path:
    """The folder LAMMPS is sent to: the pair style beside the kernels of this tpcalc.

    Raises:
        importlib.metadata.PackageNotFoundError: torch or lammps is not installed.
    """
    return plugin_folder() / f"kernels-{_hash(KERNEL_SOURCES)}"


def plugin_directory() -> str:
    """Entry point of the `lammps.plugins` group: called by `lmp` on every rank, never raises."""
    try:
        folder = built_directory()
        if not (folder / PLUGIN).exists():
            _hint("pair_style tpcalc is not built for this torch and LAMMPS; run `tpcalc build`")
        return str(folder)
    except Exception as error:  # an entry point that raises breaks `lmp` for all its users
        _hint(f"pair_style tpcalc is not available ({error}); `tpcalc doctor` says more")
        return str(Path(__file__).parent / "none")


def _hint(text: str) -> None:
    if os.environ.get("PMI_RANK", "0") == "0":  # one rank speaks
        print(f"tpcalc: {text}", file=sys.stderr)
