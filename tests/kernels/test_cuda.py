"""The CUDA kernels without a GPU: nvcc compiles them against this torch, and an emulation of
blocks, threads and barriers runs the same source on the CPU. Never run on a GPU here."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tpcalc.errors import MissingDependency
from tpcalc.kernels import build, build_cuda

ROOT = Path(__file__).parents[2]
CONV = (
    "equals_dense or only_the_gradients or sparse_graphs or no_nodes or non_contiguous or mutated"
)
POLY = "u_tensors or no_nodes"
RADIAL = "values_and_derivatives or kinds_and_gradients or convolution_with_splines"


def _run(code: str) -> subprocess.CompletedProcess:
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=env, cwd=ROOT
    )


@pytest.fixture(scope="module")
def emulated(tmp_path_factory) -> str:
    """A library that puts the emulated CUDA kernels in the place of the CPU's."""
    folder = tmp_path_factory.mktemp("emulated")
    ops = build.build()
    flags = ("-DTPCALC_EMULATE",)
    as_cpp = [*build.compiler().split(), *build.COMMON, "-O1", "-w", *flags, "-x", "c++", "-c"]
    for name in build_cuda.KERNELS:
        source = str(build_cuda.SOURCES / f"{name}.cu")
        build.call([*as_cpp, source, "-o", str(folder / f"{name}.o")])
    for command in build_cuda.binding_commands(folder, flags):
        build.call(command)
    library = folder / "libtpcalc_emulated.so"
    build.call(build_cuda.link_command(folder, library, ops))
    return str(library)


def test_emulated_kernels_pass_the_tests_of_the_cpu_ops(emulated):
    """Values, first and second derivatives in float64 against dense sums (1e-12): tails, shapes
    cut to the shapes, merged and overlapping blocks, no edges, nodes without neighbours."""
    run = _run(
        "import sys, torch, pytest; from tpcalc.kernels.ops import load_ops; load_ops()\n"
        f"torch.ops.load_library({emulated!r})\n"
        "codes = [pytest.main(['-n', '0', 'tests/kernels/' + f, '-k', k]) for f, k in "
        f"(('test_conv_op.py', {CONV!r}), ('test_radial_table.py', {RADIAL!r}), "
        f"('test_poly.py', {POLY!r}))]\n"
        "sys.exit(max(map(int, codes)))"
    )
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-2000:]
    assert "conv_cuda.cpp" in run.stderr, run.stderr[-2000:]  # torch tells of the replacement


def test_emulated_kernels_equal_the_cpu_ops(emulated):
    run = _run(f"from tests.kernels.emulated_cuda import main; main({emulated!r})")
    assert run.stdout.strip().endswith("equal"), run.stdout[-2000:] + run.stderr[-3000:]


def test_nvcc_compiles_and_the_library_loads(tmp_path, monkeypatch):
    """Against whichever torch is installed, a CPU wheel too; the CUDA key then has kernels."""
    try:
        build_cuda.nvcc()
    except MissingDependency as error:
        pytest.skip(str(error))
    monkeypatch.setenv("TPCALC_CUDA_ARCH", "90")
    library = build_cuda.build_cuda(progress=False)
    run = _run(
        "import torch; from tpcalc.kernels.ops import load_ops; load_ops()\n"
        "has = torch._C._dispatch_has_kernel_for_dispatch_key\n"
        "assert not has('tpcalc::conv', 'CUDA')\n"
        f"torch.ops.load_library({str(library)!r})\n"
        "ops = ('conv', 'conv_bwd', 'conv_radial', 'conv_radial_bwd', 'radial_table', 'poly', "
        "'poly_bwd', 'poly_double_bwd')\n"
        "print(all(has('tpcalc::' + n, 'CUDA') for n in ops))"
    )
    assert run.stdout.strip() == "True", run.stderr[-2000:]


def test_no_nvcc(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("NVCC", raising=False)
    monkeypatch.delenv("CUDA_HOME", raising=False)
    monkeypatch.setattr(torch, "__file__", "/nowhere/torch/__init__.py")
    with pytest.raises(MissingDependency, match="pip install nvidia-cuda-nvcc"):
        build_cuda.nvcc()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_cuda_asked_for_where_there_is_none():
    from tests.small import random_potential
    from tpcalc.calculator import TPCalculator
    from tpcalc.errors import InputError

    with pytest.raises(InputError, match="device 'cuda'.*device='cpu'"):
        TPCalculator(random_potential(), device="cuda")
