"""The kernels for aarch64: compiled by a cross compiler, run under an emulator where there are."""

import shutil
import subprocess
from pathlib import Path

import pytest
from tpcalc.kernels import build

COMPILER, EMULATOR = "aarch64-linux-gnu-g++", "qemu-aarch64-static"
CHECK = Path(__file__).with_name("without_torch.cpp")
FLAGS = ["-O1", "-DTPCALC_ISA=baseline", "-DTPCALC_VECTOR_BYTES=16"]


@pytest.fixture(scope="module", autouse=True)
def _compiler():
    if shutil.which(COMPILER) is None:
        pytest.skip(f"no {COMPILER} here: apt-get install g++-aarch64-linux-gnu")


def compile_for_aarch64(*arguments) -> None:
    build.call([COMPILER, *build.COMMON, *map(str, arguments)])


def test_kernels_equal_dense_sums_on_aarch64(tmp_path):
    """Every compiled shape and one beyond, tails of channels, splines, a polynomial; gradients."""
    objects = []
    for source in sorted(build.SOURCES.glob("*_kernels.cpp")):
        objects.append(tmp_path / f"{source.stem}.o")
        compile_for_aarch64(*FLAGS, "-c", source, "-o", objects[-1])
    program = tmp_path / "check"
    include = f"-I{build.SOURCES}"
    compile_for_aarch64("-O1", "-static", include, CHECK, *objects, "-o", program)
    with open(program, "rb") as file:
        assert file.read(20)[18:20] == b"\xb7\x00"  # e_machine of ELF: 183 is aarch64
    if shutil.which(EMULATOR) is None:
        pytest.skip(f"compiled, not run: apt-get install qemu-user-static ({EMULATOR})")
    run = subprocess.run([EMULATOR, str(program)], capture_output=True, text=True)
    assert run.stdout == "equal\n", run.stdout + run.stderr


@pytest.mark.parametrize("source", sorted(p.name for p in build.SOURCES.glob("*_op.cpp")))
def test_bindings_compile_for_aarch64(source):
    """Against the headers of the wheel that is here; they are the same for every machine."""
    torch = [f for f in build.units()[0].flags if f.startswith(("-I", "-D"))]
    compile_for_aarch64(*torch, "-w", "-fsyntax-only", build.SOURCES / source)
