"""Molecular dynamics in one call: NVE or NVT, trajectory, thermo log, timings, drift."""

from __future__ import annotations

import contextlib
import csv
import os
import time
from dataclasses import dataclass, field
from pathlib import Path

import ase.io
import numpy as np
import torch
from ase import Atoms, units
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import Stationary, ZeroRotation
from ase.md.verlet import VelocityVerlet

from tpcalc.errors import CheckFailed, InputError, TpcalcError, check_name
from tpcalc.progress import progress

ENSEMBLES = ("nve", "nvt")
COLUMNS = (
    "step", "time_fs", "potential_eV", "kinetic_eV", "total_eV", "temperature_K", "max_force_eV_A"
)  # fmt: skip
COLD_STEPS = 5  # first steps that are reported apart: caches, allocators, compilation


@dataclass
class MDSettings:
    """What `run_md` does.

    Attributes:
        steps, timestep: number of steps, and fs of each.
        ensemble: "nve" (velocity Verlet) or "nvt" (Langevin).
        temperature: K; of the thermostat and of the first velocities. None keeps the velocities
            the structure has (NVE only).
        friction: 1/fs, NVT.
        seed: of the velocities and the thermostat.
        trajectory: file for frames every `interval` steps (.xyz, .extxyz or .traj), or None.
        log: CSV file for the thermo rows every `log_interval` steps, or None.
        overwrite: replace files of these names; otherwise an existing one is an error.
    """

    steps: int = 1000
    timestep: float = 0.5
    ensemble: str = "nve"
    temperature: float | None = 300.0
    friction: float = 0.02
    seed: int = 0
    trajectory: str | None = None
    interval: int = 50
    log: str | None = None
    log_interval: int = 10
    overwrite: bool = False

    def check(self) -> None:
        """Raise InputError where a value makes no run."""
        check_name("ensemble", self.ensemble, ENSEMBLES)
        for name in ("steps", "interval", "log_interval"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if not 0 < self.timestep < 100:
            raise InputError(f"timestep is {self.timestep} fs; it must lie between 0 and 100")
        if self.temperature is not None and not 0 <= self.temperature < 1e5:
            raise InputError(f"temperature is {self.temperature} K; it must lie in [0, 1e5)")
        if self.ensemble == "nvt" and (self.temperature is None or self.friction <= 0):
            raise InputError("nvt needs a temperature (K) and a friction > 0 (1/fs)")
        for name in ("trajectory", "log"):
            path = Path(getattr(self, name) or ".")
            if not path.parent.is_dir():
                raise InputError(f"no folder {path.parent} to write {path.name} into")
            if path.is_file() and not self.overwrite:
                raise InputError(f"{path} exists; name another {name} or allow to overwrite it")


@dataclass
class _Recorder:
    """Thermo rows, frames and step times of a run."""

    atoms: Atoms
    settings: MDSettings
    seconds: list[float] = field(default_factory=list)
    rows: list[tuple] = field(default_factory=list)

    def row(self, step: int) -> tuple:
        atoms = self.atoms
        potential, kinetic = atoms.get_potential_energy(), atoms.get_kinetic_energy()
        force = float(np.sqrt((atoms.get_forces() ** 2).sum(axis=1).max()))
        time_fs = step * self.settings.timestep
        temperature = atoms.get_temperature()
        return step, time_fs, potential, kinetic, potential + kinetic, temperature, force


def start_velocities(atoms: Atoms, temperature: float, seed: int) -> None:
    """Maxwell-Boltzmann at exactly `temperature` (K), no drift, no rotation of a molecule."""
    normal = np.random.default_rng(seed).standard_normal((len(atoms), 3))
    atoms.set_momenta(normal * np.sqrt(atoms.get_masses() * units.kB * temperature)[:, None])
    if len(atoms) > 1:
        Stationary(atoms, preserve_temperature=False)
    if len(atoms) > 2 and not atoms.pbc.any():
        ZeroRotation(atoms, preserve_temperature=False)
    if atoms.get_temperature() > 0:
        atoms.set_momenta(atoms.get_momenta() * np.sqrt(temperature / atoms.get_temperature()))


def integrator(atoms: Atoms, settings: MDSettings):
    """ASE's dynamics object for the settings."""
    step = settings.timestep * units.fs
    if settings.ensemble == "nve":
        return VelocityVerlet(atoms, step)
    # fixcm is deprecated in ASE: it does not sample the distribution it promises
    return Langevin(
        atoms, step, temperature_K=settings.temperature, friction=settings.friction / units.fs,
        fixcm=False, rng=np.random.default_rng(settings.seed + 1),
    )  # fmt: skip


def run_md(atoms: Atoms, settings: MDSettings) -> dict:
    """Run, and return a summary of plain numbers; `atoms` (with its calculator) is moved.

    Step times leave out the writing of frames and rows.

    Raises:
        InputError: settings that make no run, or a structure the calculator refuses.
        CheckFailed: a result is not finite; names the step, frames so far stay on disk.
    """
    settings.check()
    if settings.temperature is not None:
        start_velocities(atoms, settings.temperature, settings.seed)
    recorder = _Recorder(atoms, settings)
    dynamics = integrator(atoms, settings)
    start = time.perf_counter()
    with _outputs(settings) as (write_row, write_frame), progress(settings.steps, "md") as bar:
        forces = atoms.get_forces()
        first_call = time.perf_counter() - start
        for step in range(settings.steps + 1):
            if step:
                forces = _one_step(dynamics, forces, recorder, step)
                bar.update()
            if step % settings.log_interval == 0 or step == settings.steps:
                recorder.rows.append(recorder.row(step))
                write_row(recorder.rows[-1])
            if step % settings.interval == 0 or step == settings.steps:
                write_frame(atoms)
    return {**_summary(recorder), "first_call_s": first_call, "wall_s": time.perf_counter() - start}


def _one_step(dynamics, forces: np.ndarray, recorder: _Recorder, step: int) -> np.ndarray:
    begin = time.perf_counter()
    try:
        forces = dynamics.step(forces)
    except TpcalcError as error:
        file = recorder.settings.trajectory
        where = f"; the frames before it are in {file}" if file else ""
        raise CheckFailed(f"the run stopped at step {step}: {error}{where}") from error
    recorder.seconds.append(time.perf_counter() - begin)
    return forces


@contextlib.contextmanager
def _outputs(settings: MDSettings):
    """Writers of rows and frames; each is flushed, so a stopped run leaves what it had."""
    with contextlib.ExitStack() as stack:
        write_row = write_frame = _nothing
        if settings.log:
            file = stack.enter_context(open(settings.log, "w", newline="", encoding="utf-8"))
            writer = csv.writer(file)
            writer.writerow(COLUMNS)

            def write_row(row):
                writer.writerow([row[0], *(f"{x:.10g}" for x in row[1:])])
                file.flush()

        if settings.trajectory and Path(settings.trajectory).suffix == ".traj":
            frames = stack.enter_context(ase.io.Trajectory(settings.trajectory, "w"))
            write_frame = frames.write
        elif settings.trajectory:
            text = stack.enter_context(open(settings.trajectory, "w", encoding="utf-8"))

            def write_frame(atoms):
                ase.io.write(text, atoms, format="extxyz")
                text.flush()

        yield write_row, write_frame


def _nothing(_) -> None:
    pass


def _summary(recorder: _Recorder) -> dict:
    atoms, settings = recorder.atoms, recorder.settings
    cold = min(COLD_STEPS, len(recorder.seconds) - 1)
    warm = np.array(recorder.seconds[cold:])
    median = float(np.median(warm))
    rows = np.array(recorder.rows)
    half = rows[len(rows) // 2 :]
    return {
        "atoms": len(atoms),
        "steps": settings.steps,
        "timestep_fs": settings.timestep,
        "ensemble": settings.ensemble,
        "temperature_K": float(half[:, 5].mean()),
        "potential_eV": float(rows[-1, 2]),
        "ms_per_step": 1e3 * median,
        "ms_per_step_p95": 1e3 * float(np.percentile(warm, 95)),
        "ms_per_step_cold": 1e3 * float(recorder.seconds[0]),
        "us_per_atom_step": 1e6 * median / len(atoms),
        "ns_per_day": 86400e-6 * settings.timestep / median,
        **(energy_conservation(rows, len(atoms)) if settings.ensemble == "nve" else {}),
        **run_description(atoms.calc),
    }


def energy_conservation(rows: np.ndarray, num_atoms: int) -> dict:
    """Drift (slope of the total energy, meV/atom/ps) and fluctuation about it (meV/atom).

    Args:
        rows: [R, 7], see COLUMNS.
        num_atoms: atoms.
    """
    time_ps, total = rows[:, 1] / 1000, rows[:, 4] * 1000 / num_atoms
    if len(rows) < 3:
        return {"nve_drift_meV_atom_ps": 0.0, "nve_fluctuation_meV_atom": 0.0}
    slope, offset = np.polyfit(time_ps, total - total[0], 1)
    rest = total - total[0] - slope * time_ps - offset
    return {
        "nve_drift_meV_atom_ps": float(slope),
        "nve_fluctuation_meV_atom": float(rest.std()),
    }


def run_description(calculator) -> dict:
    """What ran: variant, class, dtype, device, threads, edges (of a TPCalculator)."""
    if not hasattr(calculator, "evaluators"):
        return {"variant": type(calculator).__name__}
    potential = calculator.potential
    return {
        "variant": calculator.variant,
        "variant_class": potential.model.layers[0].conv.algorithm_class,
        "mode": calculator.mode,
        "radial": calculator.radial,
        "dtype": str(potential.dtype).removeprefix("torch."),
        "device": str(potential.shifts.device),
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "edges": calculator.num_edges,
    }
