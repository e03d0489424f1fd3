"""Compile the C++ ops once for this machine and keep them in a cache."""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

import torch

from tpcalc.errors import InputError, MissingDependency

SOURCES = Path(__file__).with_name("src")
COMMON = ("-std=c++20", "-fPIC", "-Wno-psabi")
VECTOR_FLAGS = {  # instruction set -> width of a vector in bytes, compiler flags
    "baseline": (16, ()),
    "avx2": (32, ("-mavx2", "-mfma")),
    "avx512": (
        64,
        (*(f"-mavx512{part}" for part in ("f", "dq", "vl", "bw")), "-mfma",
         "-mprefer-vector-width=512"),
    ),
}  # fmt: skip


class Unit(NamedTuple):
    """One compiler call: `name`.o from `source` with `flags`."""

    name: str
    source: Path
    flags: tuple[str, ...]


def units() -> list[Unit]:
    """All compiler calls; other libraries (the LAMMPS plugin) link the same objects."""
    torch_home = Path(torch.__file__).parent
    binding = (
        *COMMON, "-O2", "-w", *_openmp(), f"-I{torch_home / 'include'}",
        f"-D_GLIBCXX_USE_CXX11_ABI={int(torch._C._GLIBCXX_USE_CXX11_ABI)}",
    )  # fmt: skip
    sets = VECTOR_FLAGS if platform.machine() in ("x86_64", "AMD64") else ("baseline",)
    kernels = [
        Unit(f"{op}_{isa}", SOURCES / f"{op}_kernels.cpp", (
            *COMMON, "-O3", f"-DTPCALC_ISA={isa}", f"-DTPCALC_VECTOR_BYTES={VECTOR_FLAGS[isa][0]}",
            *VECTOR_FLAGS[isa][1],
        ))
        for op in ("conv", "poly", "step")
        for isa in sets
    ]  # fmt: skip
    bindings = [Unit(n, SOURCES / f"{n}.cpp", binding) for n in ("conv_op", "step_op", "conv_plan")]
    return [*bindings[:2], *kernels, *bindings[2:]]  # the longest first


def link_flags() -> list[str]:
    lib = Path(torch.__file__).parent / "lib"
    return ["-shared", *_openmp(), f"-L{lib}", f"-Wl,-rpath,{lib}", "-ltorch_cpu", "-lc10"]


def _openmp() -> tuple[str, ...]:
    """What makes `at::parallel_for` run threads: without the flag its header is a plain loop."""
    return ("-fopenmp",) if torch.backends.openmp.is_available() else ()


def compiler() -> str:
    """The C++ compiler: $CXX or g++.

    Raises:
        MissingDependency: there is none.
    """
    name = os.environ.get("CXX", "g++")
    if shutil.which(name.split()[0]) is None:
        raise MissingDependency(
            f"the fused kernels need a C++ compiler and {name!r} is not on PATH; run "
            "`apt-get install g++` (or set CXX), or choose a variant in pure PyTorch such as "
            "cg/grouped"
        )
    return name


def cache_directory() -> Path:
    """$TPCALC_CACHE, or ~/.cache/tpcalc."""
    return Path(os.environ.get("TPCALC_CACHE") or Path.home() / ".cache" / "tpcalc")


def library_path() -> Path:
    """Where the library of these sources, this torch, compiler and CPU family lies or will lie.

    Raises:
        MissingDependency: there is no compiler.
    """
    command = compiler().split()
    version = subprocess.run([*command, "-dumpfullversion"], capture_output=True, text=True)
    digest = hashlib.sha256()
    parts = [torch.__version__, version.stdout, *command, platform.machine(), *link_flags()]
    for unit in units():
        parts += [unit.name, *unit.flags]
    digest.update("\0".join(parts).encode())
    for file in sorted(SOURCES.iterdir()):
        if file.suffix in (".cpp", ".h", ".inc"):
            digest.update(file.name.encode() + b"\0" + file.read_bytes())
    name = f"tpcalc-torch{torch.__version__.split('+')[0]}-{digest.hexdigest()[:16]}"
    return cache_directory() / name / "libtpcalc_ops.so"


def compile_objects(folder: Path, progress: bool = True, flags: tuple[str, ...] = ()) -> list[Path]:
    """Compile every unit into `folder`, as many at a time as there are cores.

    Raises:
        MissingDependency: no compiler, or it fails (its last lines are in the message).
    """
    command, todo = compiler().split(), units()
    line = _ProgressLine(len(todo), progress)

    def run(unit: Unit) -> Path:
        made = folder / f"{unit.name}.o"
        call([*command, *unit.flags, *flags, "-c", str(unit.source), "-o", str(made)])
        return made

    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        jobs = [pool.submit(run, unit) for unit in todo]
        for job in as_completed(jobs):
            job.result()
            line.step()
    line.close()
    return [job.result() for job in jobs]


def build(force: bool = False, progress: bool = True) -> Path:
    """The compiled library, made now unless the cache has it; processes wait for each other.

    Raises:
        MissingDependency: no compiler, or it fails.
        InputError: the cache cannot be written.
    """

    def make(folder: Path, made: Path) -> None:
        objects = compile_objects(folder, progress)
        call([*compiler().split(), *map(str, objects), *link_flags(), "-o", str(made)])

    return make_once(library_path(), make, force)


def make_once(library: Path, make: Callable[[Path, Path], None], force: bool = False) -> Path:
    """`library`, unless it is there written by `make(temporary folder, path in it)`, in one stroke.

    Raises:
        InputError: its folder cannot be written.
    """
    if is_whole(library) and not force:
        return library
    try:
        library.parent.mkdir(parents=True, exist_ok=True)
        lock = open(library.parent / "lock", "w")  # noqa: SIM115
    except OSError as error:
        raise InputError(
            f"the cache {str(library.parent)!r} cannot be written ({error.strerror}); set "
            "TPCALC_CACHE to a folder that can"
        ) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if is_whole(library) and not force:
            return library
        with tempfile.TemporaryDirectory(dir=library.parent) as folder:
            made = Path(folder) / library.name
            make(Path(folder), made)
            os.replace(made, library)
    return library


def is_whole(library: Path) -> bool:
    """Whether this file is there to its end: loading one that was cut (a full disk, a broken copy)
    would kill the process. The table of sections is the last thing in an ELF file."""
    if not library.is_file():
        return False
    with library.open("rb") as file:
        head = file.read(64)
    if head[:4] != b"\x7fELF":
        return bool(head)  # of another system
    if len(head) < 64:
        return False
    begin, size, number = struct.unpack_from("<Q10xHH", head, 40)
    return library.stat().st_size >= begin + size * number


def call(command: list[str]) -> None:
    """Run a compiler.

    Raises:
        MissingDependency: it fails; its last lines are in the message.
    """
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        tail = "\n".join(done.stderr.strip().splitlines()[-12:])
        raise MissingDependency(f"the compiler failed:\n  {' '.join(command)}\n{tail}")


class _ProgressLine:
    """One line on stderr, only where somebody watches."""

    def __init__(self, total: int, wanted: bool):
        self.total, self.done, self.start = total, 0, time.monotonic()
        self.shown = wanted and sys.stdout.isatty() and sys.stderr.isatty()
        self._show()

    def _show(self) -> None:
        if self.shown:
            seconds = time.monotonic() - self.start
            text = f"compiling kernels, once: {self.done}/{self.total} files, {seconds:.0f} s"
            print(f"\r{text}", end="", file=sys.stderr, flush=True)

    def step(self) -> None:
        self.done += 1
        self._show()

    def close(self) -> None:
        if self.shown:
            print(file=sys.stderr)
