"""`tpcalc md POTENTIAL STRUCTURE`: molecular dynamics."""

from __future__ import annotations

import argparse

from tpcalc.arguments import add_potential_arguments, make_calculator


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    add_potential_arguments(parser)
    parser.add_argument("structure", help="any file ASE reads; the last frame is taken")
    parser.add_argument("--frame", default="-1", help="which frame, in ASE's notation (-1)")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--timestep", type=float, default=0.5, help="fs (0.5)")
    parser.add_argument("--ensemble", default="nve", help="nve or nvt (Langevin)")
    parser.add_argument(
        "--temperature", type=float, default=300.0, help="K, of thermostat and first velocities"
    )
    parser.add_argument(
        "--keep-velocities", action="store_true", help="start with the velocities in the file (nve)"
    )
    parser.add_argument("--friction", type=float, default=0.02, help="1/fs, nvt (0.02)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--trajectory", help="frames: NAME.xyz or NAME.traj")
    parser.add_argument("--interval", type=int, default=50, help="steps between frames (50)")
    parser.add_argument("--log", help="thermo rows: NAME.csv")
    parser.add_argument("--log-interval", type=int, default=10, help="steps between rows (10)")
    parser.add_argument("--overwrite", action="store_true", help="replace existing outputs")


def run(args: argparse.Namespace) -> dict:
    """Run and print the summary."""
    from tpcalc.errors import InputError
    from tpcalc.md import MDSettings, run_md
    from tpcalc.structures import bare, read_structure

    if args.keep_velocities and args.ensemble == "nvt":
        raise InputError("--keep-velocities goes with --ensemble nve")
    settings = MDSettings(
        steps=args.steps,
        timestep=args.timestep,
        ensemble=args.ensemble,
        temperature=None if args.keep_velocities else args.temperature,
        friction=args.friction,
        seed=args.seed,
        trajectory=args.trajectory,
        interval=args.interval,
        log=args.log,
        log_interval=args.log_interval,
        overwrite=args.overwrite,
    )
    settings.check()
    atoms = bare(read_structure(args.structure, args.frame))
    atoms.calc = make_calculator(args)
    summary = run_md(atoms, settings)
    if not args.json:
        _print(summary)
    return summary


def _print(s: dict) -> None:
    print(
        f"{s['atoms']} atoms, {s['edges']} edges; {s['variant']} ({s['variant_class']}), "
        f"{s['dtype']}, {s['device']}, {s['threads']} threads"
    )
    print(
        f"{s['ensemble'].upper()}, {s['steps']} steps of {s['timestep_fs']} fs, "
        f"mean temperature {s['temperature_K']:.0f} K, last potential energy "
        f"{s['potential_eV']:.6f} eV"
    )
    print(
        f"{s['ms_per_step']:.3f} ms/step (p95 {s['ms_per_step_p95']:.3f}, first "
        f"{s['ms_per_step_cold']:.1f}), {s['us_per_atom_step']:.1f} µs/atom/step, "
        f"{s['ns_per_day']:.2f} ns/day"
    )
    if "nve_drift_meV_atom_ps" in s:
        print(
            f"total energy: drift {s['nve_drift_meV_atom_ps']:+.4f} meV/atom/ps, "
            f"fluctuation {s['nve_fluctuation_meV_atom']:.4f} meV/atom"
        )
