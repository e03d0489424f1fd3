"""Compile the convolution and `poly` for CUDA: a library of its own beside the CPU's ops."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import time
from pathlib import Path

import torch

from tpcalc.errors import MissingDependency
from tpcalc.kernels import build as cpu

SOURCES = cpu.SOURCES / "cuda"
KERNELS, BINDINGS = ("conv_kernels", "poly_kernels"), ("conv_cuda", "poly_cuda", "device_tables")
PIP_LINE = "pip install nvidia-cuda-nvcc nvidia-cuda-crt nvidia-cuda-runtime nvidia-cuda-cccl"


def nvcc() -> Path:
    """$NVCC, nvcc on PATH, in $CUDA_HOME or in NVIDIA's wheels.

    Raises:
        MissingDependency: none of them is there.
    """
    wheels = Path(torch.__file__).parents[1] / "nvidia"
    tried = [os.environ.get("NVCC"), shutil.which("nvcc")]
    if home := os.environ.get("CUDA_HOME"):
        tried.append(f"{home}/bin/nvcc")
    tried += sorted(map(str, wheels.glob("*/bin/nvcc")))
    for name in tried:
        if name and (found := shutil.which(name)):
            return Path(found)
    raise MissingDependency(
        f"the CUDA kernels need nvcc, which is not on PATH; run `{PIP_LINE}` (the major version "
        "of your driver's CUDA), set NVCC, or take device='cpu'"
    )


def architectures() -> list[str]:
    """`-gencode` values: $TPCALC_CUDA_ARCH ("80 90"), else this machine's GPU, else sm_90 + PTX."""
    if given := os.environ.get("TPCALC_CUDA_ARCH"):
        names = given.replace(",", " ").split()
        return [f"arch=compute_{n},code=sm_{n}" for n in names]
    if torch.cuda.is_available():
        name = "{}{}".format(*torch.cuda.get_device_capability())
        return [f"arch=compute_{name},code=sm_{name}"]
    return ["arch=compute_90,code=[sm_90,compute_90]"]


def kernel_commands(folder: Path) -> list[list[str]]:
    """nvcc's calls for the kernels, which know no torch."""
    flags = ["-std=c++20", "-O3", "-Xcompiler", "-fPIC", "-cudart", "static"]
    flags += [part for name in architectures() for part in ("-gencode", name)]
    return [
        [str(nvcc()), *flags, "-c", str(SOURCES / f"{name}.cu"), "-o", str(folder / f"{name}.o")]
        for name in KERNELS
    ]


def binding_commands(folder: Path, flags: tuple[str, ...] = ()) -> list[list[str]]:
    """g++'s calls for the binding: device-neutral headers of torch, so a CPU torch will do."""
    include = next(f for f in cpu.units()[0].flags if f.startswith("-I"))
    return [
        [*cpu.compiler().split(), *cpu.COMMON, "-O1", "-w", include, *flags, "-c",
         str(SOURCES / f"{name}.cpp"), "-o", str(folder / f"{name}.o")]
        for name in BINDINGS
    ]  # fmt: skip


def link_command(folder: Path, library: Path, ops: Path) -> list[str]:
    """The binding takes plans from `ops`, the library of the CPU's ops."""
    objects = [str(folder / f"{n}.o") for n in (*BINDINGS, *KERNELS)]
    return [*cpu.compiler().split(), *objects, f"-L{ops.parent}", f"-Wl,-rpath,{ops.parent}",
            f"-l:{ops.name}", *cpu.link_flags(), "-o", str(library)]  # fmt: skip


def cuda_library_path() -> Path:
    """Where the library of these sources, torch, nvcc and architectures lies or will lie.

    Raises:
        MissingDependency: no nvcc, or no C++ compiler.
    """
    version = subprocess.run([str(nvcc()), "--version"], capture_output=True, text=True).stdout
    cpu_folder = cpu.library_path().parent
    parts = [version, *architectures(), cpu_folder.name]
    digest = hashlib.sha256("\0".join(parts).encode())
    for file in sorted(SOURCES.iterdir()):
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return cpu_folder / f"cuda-{digest.hexdigest()[:16]}" / "libtpcalc_cuda.so"


def build_cuda(force: bool = False, progress: bool = True) -> Path:
    """The library with the CUDA kernels, made now unless the cache has it.

    Raises:
        MissingDependency: no nvcc or C++ compiler, or one fails.
    """
    start = time.monotonic()

    def make(folder: Path, made: Path) -> None:
        ops = cpu.build(progress=progress)
        for command in [*kernel_commands(folder), *binding_commands(folder)]:
            cpu.call(command)
        link = link_command(folder, made, ops)
        runtime = [str(static_runtime(folder)), "-ldl", "-lrt", "-lpthread"]
        cpu.call([*link[:-2], *runtime, *link[-2:]])
        if progress:
            print(f"compiled the CUDA kernels in {time.monotonic() - start:.0f} s")

    return cpu.make_once(cuda_library_path(), make, force)


def static_runtime(folder: Path) -> Path:
    """libcudart_static.a of the toolkit that nvcc says it belongs to.

    Raises:
        MissingDependency: it is not there.
    """
    command = kernel_commands(folder)[0]
    run = subprocess.run([*command, "--dryrun"], capture_output=True, text=True)
    tops = [x.split("=", 1)[1] for x in run.stderr.splitlines() if x.startswith("#$ TOP=")]
    for top in tops:
        for found in sorted(Path(top).glob("lib*/libcudart_static.a")):
            return found
    raise MissingDependency(f"libcudart_static.a is not beside {nvcc()}; run `{PIP_LINE}`")
