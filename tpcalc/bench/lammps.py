"""The exported potential in LAMMPS: per variant and number of ranks, beside the ASE calculator."""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from pathlib import Path

import numpy as np
from ase import Atoms

from tpcalc.arguments import set_threads
from tpcalc.bench.compare import choose_variants
from tpcalc.bench.md import bench_md
from tpcalc.bench.step import SPLINE
from tpcalc.calculator import TPCalculator
from tpcalc.export import export_potential
from tpcalc.lammps.deck import md_deck, write_data
from tpcalc.lammps.run import LammpsRun, read_dump, run_deck
from tpcalc.md import MDSettings
from tpcalc.progress import progress
from tpcalc.structures import bare
from tpcalc.tables import format_table

COLUMNS = {
    "potential": "potential",
    "variant": "variant",
    "algorithm_class": "class",
    "ranks": "ranks d",
    "threads": "threads d",
    "ms_per_step": "ms/step .3f",
    "us_per_atom_step": "µs/atom/step .1f",
    "ns_per_day": "ns/day .2f",
    "efficiency": "efficiency .2f",
    "overhead_percent": "not model % .1f",
    "communication_percent": "comm. % .1f",
    "rss_MB": "MB/rank .0f",
    "dE_eV_atom": "ΔE to ASE/(eV/atom) .0e",
    "dF_eV_A": "ΔF/(eV/Å) .0e",
    "ase_ms_per_step": "ASE ms/step .3f",
    "against_ase_percent": "over ASE % .1f",
}


def bench_lammps(
    potential,
    atoms: Atoms,
    variants: list[str] | None = None,
    ranks: tuple[int, ...] = (1, 2),
    steps: int = 200,
    threads: int = 1,
    dtype: str = "float32",
    timestep: float = 0.5,
    skin: float = 1.0,
    with_ase: bool = True,
) -> dict:
    """NVE dynamics in LAMMPS with each variant on each number of ranks.

    Args:
        potential: a path or `Potential`.
        variants: names, None for every exact variant that can run here; NAME+spline has its
            radial networks as splines.
        threads: per rank.
        timestep: fs. skin: Å, the same in ASE.
        with_ase: also time the ASE calculator, with torch as many threads as this process has
            (`tpcalc bench lammps` sets them to `threads`).

    Returns:
        {"rows": ..., "missing": variant -> why not, "settings": ...}. Times are means over the
        steps after 20 warm ones (or as many, of few); `overhead_percent` is what a step spends
        outside the model and its communication; `efficiency` is against the first number of
        ranks; on one rank `against_ase_percent` is how much longer a step takes than the ASE
        calculator's median; MB are 1e6 bytes.
    """
    loaded = TPCalculator(potential).potential
    names, missing = choose_variants(loaded, variants)
    rows = []
    with (
        tempfile.TemporaryDirectory() as temporary,
        progress(len(names) * len(ranks), "lammps", "run") as bar,
    ):
        folder = Path(temporary)
        boundary = write_data(bare(atoms), folder / "atoms.data", loaded.species)
        for name in names:
            file = folder / f"{name.replace('/', '-')}.pt"
            manifest = export_potential(
                loaded, file, dtype, name.removesuffix(SPLINE),
                "spline" if name.endswith(SPLINE) else "network",
            )  # fmt: skip
            deck = md_deck(file, loaded.species, boundary, steps, min(20, steps), timestep,
                           skin=skin, forces="forces.dump")  # fmt: skip
            first = None
            for count in ranks:
                run = run_deck(deck, ranks=count, folder=folder, threads=threads, timeout=3600)
                row = _row(run, manifest, count, threads, len(atoms), timestep)
                row["variant"], row["forces"] = name, read_dump(folder / "forces.dump")[0]
                first = first or row
                ideal = first["ms_per_step"] * first["ranks"] / count
                row["efficiency"] = ideal / row["ms_per_step"]
                rows.append(row)
                bar.update()
    _beside_ase(rows, potential, atoms, names, steps, timestep, skin, dtype, with_ase)
    settings = {
        "steps": steps, "timestep": timestep, "ensemble": "nve", "skin": skin, "dtype": dtype,
        "ranks": list(ranks), "threads": threads,
    }  # fmt: skip
    return {"rows": rows, "missing": missing, "settings": settings}


def _row(
    run: LammpsRun, manifest: dict, ranks: int, threads: int, n_atoms: int, timestep: float
) -> dict:
    seconds, steps = run.loops[-1]
    per_step = seconds / steps
    times = run.times()[-1]
    warm = steps / (steps + 1)  # the table counts the setup of the run too, the loop does not
    model = warm * (times["model forward"] + times["model backward"])
    communication = warm * times["communication"]
    memory = re.search(r"Maximum resident set size: *([\d.]+)", run.log)
    cpu = re.findall(r"^([\d.]+)% CPU use", run.log, re.M)
    return {
        "variant": manifest["variant"],
        "algorithm_class": manifest["algorithm_class"],
        "dtype": manifest["dtype"],
        "ranks": ranks,
        "threads": threads,
        "atoms": n_atoms,
        "steps": steps,
        "ms_per_step": 1e3 * per_step,
        "cpu_percent": float(cpu[-1]) if cpu else None,
        "us_per_atom_step": 1e6 * per_step / n_atoms,
        "ns_per_day": 86400e-6 * timestep / per_step,
        "overhead_percent": 100.0 * (1.0 - (model + communication) / seconds),
        "communication_percent": 100.0 * communication / seconds,
        "rss_MB": float(memory.group(1)) * 2**20 / 1e6 if memory else None,
        "start_s": run.seconds - sum(loop[0] for loop in run.loops),
        "energy_eV": run.thermo[0]["PotEng"][0],
        "drift_eV": run.thermo[-1]["TotEng"][-1] - run.thermo[-1]["TotEng"][0],
        "times_s": times,
    }


def _beside_ase(rows, potential, atoms, names, steps, timestep, skin, dtype, with_ase) -> None:
    """Add the differences of the first energies and forces (from float64 with the radial network),
    and the step time of the ASE calculator."""
    copy = bare(atoms)
    copy.calc = TPCalculator(potential, names[0].removesuffix(SPLINE), dtype="float64")
    energy, forces = copy.get_potential_energy(), copy.get_forces()
    ase = {}
    plain = [name for name in names if not name.endswith(SPLINE)]
    if with_ase and plain:
        settings = MDSettings(steps=steps, timestep=timestep, ensemble="nve")
        timed = bench_md(potential, atoms, plain, settings, dtype=dtype, skin=skin)
        ase = {row["variant"]: row["ms_per_step"] for row in timed["rows"]}
    for row in rows:
        dumped = row.pop("forces")
        own = np.stack([dumped[f"f{axis}"] for axis in "xyz"], 1)
        row["dF_eV_A"] = float(np.abs(own - forces).max())
        row["dE_eV_atom"] = abs(row["energy_eV"] - energy) / len(atoms)
        beside = row["ase_ms_per_step"] = ase.get(row["variant"])
        if beside and row["ranks"] == 1:
            row["against_ase_percent"] = 100.0 * (row["ms_per_step"] / beside - 1.0)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `tpcalc bench lammps`."""
    parser.add_argument("potentials", nargs="+", help="NAME.safetensors, one or several")
    parser.add_argument(
        "--system", default="3bpa", help="3bpa, water:64, silicon:3 or a file ASE reads (3bpa)"
    )
    parser.add_argument(
        "--variants",
        nargs="+",
        help="names, NAME+spline for radial splines; default: every exact one",
    )
    parser.add_argument("--ranks", nargs="+", type=int, default=[1, 2], help="(1 2)")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--timestep", type=float, default=0.5, help="fs (0.5)")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--skin", type=float, default=1.0, help="Å (1.0)")
    parser.add_argument("--threads", type=int, default=1, help="per rank, and of ASE (1)")
    parser.add_argument("--no-ase", action="store_true", help="do not time the ASE calculator")
    parser.add_argument("-o", "--out", help="also write everything to NAME.json")


def run(args: argparse.Namespace) -> dict:
    """`tpcalc bench lammps POTENTIAL...`."""
    from tpcalc.bench.report import labelled, machine
    from tpcalc.bench.workloads import workload
    from tpcalc.kernels.allocator import retain_freed_memory

    set_threads(args.threads)  # of the ASE calculator; LAMMPS gets them by OMP_NUM_THREADS
    retain_freed_memory()  # as the pair style does
    atoms, rows, missing, settings = workload(args.system), [], {}, {}
    for label, path in labelled(args.potentials).items():
        result = bench_lammps(
            path, atoms, args.variants, tuple(args.ranks), args.steps, args.threads, args.dtype,
            args.timestep, args.skin, not args.no_ase,
        )  # fmt: skip
        rows += [{"potential": label, **row} for row in result["rows"]]
        missing |= result["missing"]
        settings = result["settings"]
    whole = {"rows": rows, "missing": missing, "settings": settings, "machine": machine()}
    if not args.json:
        print(format_table(rows, COLUMNS))
    if args.out:
        Path(args.out).write_text(json.dumps(whole, indent=1) + "\n")
    return whole
