"""Building and loading the ops."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tpcalc.errors import InputError, MissingDependency
from tpcalc.kernels import build
from tpcalc.kernels.masks import FILE, masks_source
from tpcalc.kernels.ops import load_ops


def test_masks_are_those_of_the_couplings():
    assert FILE.read_text() == masks_source()


def test_library_is_named_by_all_that_made_it(monkeypatch, tmp_path):
    monkeypatch.setenv("TPCALC_CACHE", str(tmp_path))
    path = build.library_path()
    assert path.is_relative_to(tmp_path)
    monkeypatch.setattr(torch, "__version__", "9.9.9")
    assert build.library_path() != path
    monkeypatch.undo()
    monkeypatch.setenv("TPCALC_CACHE", str(tmp_path))
    source = tmp_path / "src"
    source.mkdir()
    for file in filter(Path.is_file, build.SOURCES.iterdir()):
        (source / file.name).write_bytes(file.read_bytes())
    monkeypatch.setattr(build, "SOURCES", source)
    with open(source / "forward.h", "a") as file:
        file.write("// changed\n")
    assert build.library_path() != path


def test_no_compiler(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(MissingDependency, match="apt-get install g"):
        build.build()


def test_failing_compiler_shows_its_last_lines(monkeypatch, tmp_path):
    monkeypatch.setenv("TPCALC_CACHE", str(tmp_path))
    monkeypatch.setattr(build, "COMMON", ("--no-such-flag",))
    with pytest.raises(MissingDependency, match="no-such-flag"):
        build.build(progress=False)
    assert not list(tmp_path.rglob("*.so"))


def test_cache_that_cannot_be_written(monkeypatch, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("TPCALC_CACHE", str(blocked))
    with pytest.raises(InputError, match="TPCALC_CACHE"):
        build.build()


@pytest.mark.parametrize("length", [0, 10, 64, 100_000])
def test_a_library_that_was_cut_is_made_again(length, tmp_path):
    """Loading it would end the process by a bus error."""
    whole = build.build().read_bytes()
    library = tmp_path / "cache" / "libtpcalc_ops.so"
    library.parent.mkdir()
    library.write_bytes(whole[:length])
    build.make_once(library, lambda folder, made: made.write_bytes(whole))
    assert library.read_bytes() == whole
    build.make_once(library, lambda folder, made: pytest.fail("made again"))


def test_second_call_takes_the_cache():
    load_ops()
    before = build.library_path().stat().st_mtime_ns
    assert build.build().stat().st_mtime_ns == before


def test_ops_that_exist_are_left_alone(tmp_path):
    """As in a process where the LAMMPS plugin was loaded first."""
    path = str(build.build())
    code = (
        "import sys, torch, shutil\n"
        f"other = shutil.copy({path!r}, sys.argv[1])\n"
        f"torch.ops.load_library(other); torch.ops.load_library({path!r})\n"
        "from tpcalc.kernels.ops import load_ops; load_ops()\n"
        "print(torch.ops.tpcalc.conv.default._schema.name)"
    )
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "copy.so")],
        capture_output=True, text=True, env=env, check=True,
    )  # fmt: skip
    assert run.stdout.strip() == "tpcalc::conv"


@pytest.mark.parametrize("watched", [True, False])
def test_progress_is_one_line_where_somebody_watches(watched, monkeypatch, capsys):
    for stream in (sys.stdout, sys.stderr):
        monkeypatch.setattr(stream, "isatty", lambda: watched, raising=False)
    line = build._ProgressLine(2, wanted=True)
    line.step()
    line.step()
    line.close()
    shown = capsys.readouterr().err
    assert shown.count("\n") == watched
    assert [f"{n}/2 files" in shown for n in range(3)] == [watched] * 3


def test_unknown_instruction_set_is_refused():
    """Rather than the slowest one, silently."""
    code = (
        "import torch; from tpcalc.tensor_products import convolution\n"
        "conv = convolution('cg/fused', '4x0e', '0e', '0e')\n"
        "ends = torch.zeros(3, dtype=torch.long)\n"
        "conv(torch.ones(1, 4), torch.ones(3, 1), torch.ones(3, 4), ends, ends)"
    )
    env = {**os.environ, "TPCALC_ISA": "avx1024"}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert "TPCALC_ISA is 'avx1024'; it can be avx2 or baseline" in run.stderr
