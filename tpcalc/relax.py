"""Relaxations in one call: one or many structures, resumable, with a table."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.filters import FrechetCellFilter
from ase.optimize import FIRE, LBFGS

from tpcalc.errors import InputError, TpcalcError, check_name
from tpcalc.progress import progress
from tpcalc.structures import bare

OPTIMIZERS = {"fire": FIRE, "lbfgs": LBFGS}


@dataclass
class RelaxSettings:
    """What a relaxation does.

    Attributes:
        fmax: eV/Å, largest force (and with `cell` largest stress generalised force) at the end.
        steps: most steps per structure.
        optimizer: "lbfgs" or "fire".
        cell: relax the cell too; needs periodic directions.
    """

    fmax: float = 0.01
    steps: int = 500
    optimizer: str = "lbfgs"
    cell: bool = False

    def check(self) -> None:
        """Raise InputError where a value makes no relaxation."""
        check_name("optimizer", self.optimizer, OPTIMIZERS)
        if not self.fmax > 0:
            raise InputError(f"fmax is {self.fmax} eV/Å; it must be positive")
        if self.steps < 1:
            raise InputError(f"steps is {self.steps}; it must be at least 1")


def relax(atoms: Atoms, settings: RelaxSettings, observe: Callable[[], None] | None = None) -> dict:
    """Relax `atoms` in place with its calculator; returns a row of the table.

    Args:
        atoms: moved to the minimum.
        settings: see `RelaxSettings`.
        observe: called after every step.

    Raises:
        InputError, CheckFailed: what the calculator refuses.
    """
    settings.check()
    if settings.cell and not atoms.pbc.any():
        raise InputError("the cell cannot be relaxed: no direction is periodic")
    start, before = time.perf_counter(), atoms.get_potential_energy()
    target = FrechetCellFilter(atoms) if settings.cell else atoms
    optimizer = OPTIMIZERS[settings.optimizer](target, logfile=None)
    if observe is not None:
        optimizer.attach(observe)
    converged = optimizer.run(fmax=settings.fmax, steps=settings.steps)
    return {
        "formula": atoms.get_chemical_formula(),
        "atoms": len(atoms),
        "steps": optimizer.nsteps,
        "energy_start_eV": float(before),
        "energy_eV": float(atoms.get_potential_energy()),
        "fmax_eV_A": float(np.sqrt((atoms.get_forces() ** 2).sum(axis=1).max())),
        "seconds": time.perf_counter() - start,
        "status": "converged" if converged else "not converged",
    }


def relax_many(
    structures: list[Atoms], calculator, settings: RelaxSettings, out=None, resume: bool = False
) -> tuple[list[dict], list[Atoms]]:
    """Relax each structure; one that fails gets a row that says why, the others go on.

    With `out` (NAME.xyz) every finished structure is appended there, its row to NAME.jsonl, and
    the one at work is kept in NAME.current.xyz; `resume` goes on after the last finished one.

    Returns:
        rows of the table, and the relaxed structures in the order of the input (the unrelaxed
        one where it failed).

    Raises:
        InputError: settings, or `out` exists without `resume`, or belongs to another input.
    """
    settings.check()
    store = _Store(Path(out), structures, settings, resume) if out is not None else None
    rows, relaxed = (store.rows, store.frames) if store else ([], [])
    with progress(len(structures), "relax", "structure") as bar:
        bar.update(len(rows))
        for number in range(len(rows), len(structures)):
            atoms = bare(structures[number])
            if store:
                store.continue_with(atoms, number)
            atoms.calc = calculator
            observe = store.keeper(atoms, number) if store else None
            try:
                row = relax(atoms, settings, observe)
            except TpcalcError as error:
                atoms = bare(structures[number])
                formula = atoms.get_chemical_formula()
                row = {"formula": formula, "atoms": len(atoms), "status": f"failed: {error}"}
            atoms.calc = None
            rows.append({"id": number, **row})
            relaxed.append(atoms)
            if store:
                store.finish(atoms, rows[-1])
            bar.update()
    return rows, relaxed


class _Store:
    """Results on disk: frames in NAME.xyz, rows in NAME.jsonl, work in NAME.current.xyz."""

    KEEP_EVERY = 10.0  # s between two copies of the structure at work

    def __init__(self, out: Path, structures: list[Atoms], settings: RelaxSettings, resume: bool):
        if out.suffix not in (".xyz", ".extxyz"):
            raise InputError(f"output {out} must end in .xyz or .extxyz")
        if not out.parent.is_dir():
            raise InputError(f"no folder {out.parent} to write {out.name} into")
        self.out = out
        self.table = out.with_suffix(".jsonl")
        self.current = out.with_suffix(".current.xyz")
        self.task = _fingerprint(structures, settings)
        self.rows: list[dict] = []
        self.frames: list[Atoms] = []
        if self.table.exists() and resume:
            self._load()
        elif self.table.exists() or self.out.exists():
            raise InputError(f"{out} or {self.table} exists; name another output, or use --resume")
        if not self.table.exists():
            self.table.write_text(json.dumps({"task": self.task}) + "\n")

    def _load(self) -> None:
        lines = self.table.read_text().splitlines()
        try:
            records = [json.loads(line) for line in lines]
        except ValueError:
            records = [json.loads(line) for line in lines[:-1]]  # stopped while writing the last
        if not records or records[0].get("task") != self.task:
            raise InputError(
                f"{self.table} belongs to other structures or settings; name another output"
            )
        done = len(records) - 1  # what follows in the file may be half a frame
        frames = ase.io.read(self.out, f":{done}") if done else []
        self.rows, self.frames = records[1:], [bare(f) for f in frames]
        self._rewrite()

    def _rewrite(self) -> None:
        """Both files with exactly the finished structures (a stop may have left half a frame)."""
        text = "".join(json.dumps(r) + "\n" for r in [{"task": self.task}, *self.rows])
        temporary = self.out.with_suffix(".part")
        if self.frames:
            ase.io.write(temporary, self.frames, format="extxyz")
            os.replace(temporary, self.out)
        else:
            self.out.unlink(missing_ok=True)
        temporary.write_text(text)
        os.replace(temporary, self.table)

    def continue_with(self, atoms: Atoms, number: int) -> None:
        """Start from the kept copy of this structure, if there is one."""
        if self.current.exists():
            kept = ase.io.read(self.current)
            if kept.info.get("id") == number and len(kept) == len(atoms):
                atoms.set_cell(kept.cell)
                atoms.positions = kept.positions

    def keeper(self, atoms: Atoms, number: int) -> Callable[[], None]:
        """An observer that copies the structure at work to disk now and then."""
        last = [time.monotonic()]

        def keep() -> None:
            if time.monotonic() - last[0] > self.KEEP_EVERY:
                copy = bare(atoms)
                copy.info["id"] = number
                temporary = self.current.with_suffix(".part")
                ase.io.write(temporary, copy, format="extxyz")
                os.replace(temporary, self.current)
                last[0] = time.monotonic()

        return keep

    def finish(self, atoms: Atoms, row: dict) -> None:
        """Append frame and row; the row last, it is what counts on resume."""
        with open(self.out, "a", encoding="utf-8") as file:
            ase.io.write(file, bare(atoms), format="extxyz")
        with open(self.table, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.current.unlink(missing_ok=True)


def _fingerprint(structures: list[Atoms], settings: RelaxSettings) -> str:
    digest = hashlib.sha256(repr(settings).encode())
    for atoms in structures:
        for array in (atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc):
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
