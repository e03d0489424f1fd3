"""Results of the benchmarks as table, sentence, JSON and HTML."""

from __future__ import annotations

import argparse
import json
import os
import platform
from pathlib import Path

import torch

import tpcalc
from tpcalc.errors import InputError
from tpcalc.storage import read_manifest
from tpcalc.tables import format_table
from tpcalc.train.evaluate import overall

MD_COLUMNS = {
    "potential": "potential",
    "variant": "variant",
    "variant_class": "class",
    "threads": "threads d",
    "ms_per_step": "ms/step .3f",
    "ms_per_step_p95": "p95 .3f",
    "us_per_atom_step": "µs/atom/step .1f",
    "ns_per_day": "ns/day .2f",
    "speedup": "speed-up .2f",
    "first_call_ms": "1st call/ms .0f",
    "dE_eV_atom": "ΔE/(eV/atom) .0e",
    "dF_eV_A": "ΔF/(eV/Å) .0e",
    "dF64_eV_A": "ΔF in float64 .0e",
}
RELAX_COLUMNS = {
    "potential": "potential",
    "variant": "variant",
    "steps": "steps d",
    "energy_eV": "E end/eV .6f",
    "fmax_eV_A": "fmax/(eV/Å) .4f",
    "ms_per_step": "ms/step .3f",
    "ms_per_step_p95": "p95 .3f",
    "seconds": "s .2f",
    "distance_A": "apart/Å .0e",
    "status": "status",
}
LAMMPS_COLUMNS = {
    "potential": "potential",
    "variant": "variant",
    "algorithm_class": "class",
    "ranks": "ranks d",
    "threads": "threads d",
    "ms_per_step": "ms/step .3f",
    "ns_per_day": "ns/day .2f",
    "communication_percent": "comm. % .1f",
    "dE_eV_atom": "ΔE to ASE/(eV/atom) .0e",
}
COLUMNS = {"md": MD_COLUMNS, "relax": RELAX_COLUMNS, "lammps": LAMMPS_COLUMNS}
TITLES = {"md": "Molecular dynamics", "relax": "Relaxation", "lammps": "LAMMPS"}
SAME_FORCES = 1e-9  # eV/Å in float64: above this an exact variant is not exact


def add_bench_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments that all benchmarks of potentials share."""
    from tpcalc.arguments import add_device_arguments

    parser.add_argument("potentials", nargs="+", help="NAME.safetensors, one or several")
    parser.add_argument(
        "--system", default="3bpa", help="3bpa, water:64, silicon:3 or a file ASE reads (3bpa)"
    )
    parser.add_argument("--variants", nargs="+", help="names; default: every exact one")
    add_device_arguments(parser)
    add_output_arguments(parser)


def add_output_arguments(parser: argparse.ArgumentParser) -> None:
    """--out and --html."""
    parser.add_argument("-o", "--out", help="also write everything to NAME.json")
    parser.add_argument("--html", help="also write a page with plots (needs matplotlib)")


def labelled(paths: list) -> dict[str, Path]:
    """Name -> file: models/3bpa-cg/potential.safetensors is 3bpa-cg, NAME.safetensors is NAME.

    Raises:
        InputError: two files of one name.
    """
    files: dict[str, Path] = {}
    for path in map(Path, paths):
        label = path.parent.name if path.stem == "potential" else path.stem
        if label in files:
            raise InputError(f"{files[label]} and {path} have one name, {label!r}; rename one")
        files[label] = path
    return files


def finish(parts: dict[str, dict], args: argparse.Namespace, paths: dict) -> dict:
    """Collect the parts (potential -> kind -> result), print or write what the arguments ask.

    Args:
        parts: what `bench_md` and `bench_relax` returned.
        args: --json, --out, --html.
        paths: potential -> its file, whose manifest has the accuracy.

    Returns:
        The whole result, JSON-able, with its tables and its sentence.
    """
    errors = {label: force_errors(read_manifest(path)) for label, path in paths.items()}
    result = collect(parts, {label: e for label, e in errors.items() if e})
    result["machine"]["allocator"] = args.allocator
    if not args.json:
        print(as_text(result))
    if args.out:
        Path(args.out).write_text(json.dumps(result, indent=1) + "\n")
    if args.html:
        from tpcalc.bench.html import write_html

        write_html(result, Path(args.html))
    return result


def collect(parts: dict[str, dict], accuracy: dict) -> dict:
    """Tables over all potentials, speed-ups against each function's reference, the sentence."""
    tables: dict[str, list[dict]] = {}
    missing: dict[str, str] = {}
    for label, kinds in parts.items():
        for kind, result in kinds.items():
            missing |= result["missing"]
            rows = [{"potential": label, **row} for row in result["rows"]]
            if not rows:
                continue
            # the reference is the obvious algorithm; it stands first where it was run
            base = rows[0]["ms_per_step"] if rows[0]["variant"].endswith("/reference") else None
            for row in rows:
                row["speedup"] = base / row["ms_per_step"] if base else None
            tables.setdefault(kind, []).extend(rows)
    settings = {kind: r["settings"] for kinds in parts.values() for kind, r in kinds.items()}
    result = {
        "tables": tables, "missing": missing, "accuracy": accuracy, "settings": settings,
        "machine": machine(),
    }  # fmt: skip
    result["sentence"] = sentence(result)
    return result


def machine() -> dict:
    """What the times depend on."""
    return {
        "tpcalc": tpcalc.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def as_text(result: dict) -> str:
    """The tables and the sentence for a terminal."""
    lines = []
    for kind, rows in result["tables"].items():
        lines += [
            f"{TITLES[kind]}: {system_text(rows)}; {settings_text(kind, result)}",
            format_table(rows, COLUMNS[kind]),
            "",
        ]
    for label, errors in result["accuracy"].items():
        listed = ", ".join(f"{name} {value:.1f}" for name, value in errors.items())
        lines.append(f"{label}: force RMSE (meV/Å) {listed}")
    for variant, why in result["missing"].items():
        lines.append(f"not run: {variant}: {why}")
    m = result["machine"]
    lines += [
        f"{m['cpu']}, {m['cores']} cores, torch {m['torch']}, allocator {m['allocator']}, "
        f"load {m['load']}; warm times, "
        "first call apart; ΔE, ΔF: largest difference from the reference variant in float64",
        "",
        result["sentence"],
    ]
    return "\n".join(lines)


def system_text(rows: list[dict]) -> str:
    row = rows[0]
    parts = [f"{row[key]} {key}" for key in ("atoms", "edges") if key in row]
    threads = " and ".join(dict.fromkeys(str(r["threads"]) for r in rows))
    return ", ".join([*parts, row["dtype"], row.get("device", "cpu"), f"{threads} threads"])


def settings_text(kind: str, result: dict) -> str:
    s = result["settings"][kind]
    if kind == "md":
        return (
            f"{s['ensemble'].upper()} {s['temperature']:g} K, {s['steps']} steps of "
            f"{s['timestep']} fs, variants in turn"
        )
    if kind == "lammps":
        return f"NVE, {s['steps']} steps of {s['timestep']} fs"
    return f"{s['optimizer'].upper()} to {s['fmax']} eV/Å, at most {s['steps']} steps"


def sentence(result: dict) -> str:
    """Which variant to use here, and why; speed beside accuracy."""
    kind = "md" if "md" in result["tables"] else "relax"
    rows = result["tables"][kind]
    wrong = [r["variant"] for r in rows if r.get("dF64_eV_A", 0.0) > SAME_FORCES]
    best: dict[str, dict] = {}
    for row in rows:
        label = row["potential"]
        if row["variant"] in wrong:
            continue
        if label not in best or row["ms_per_step"] < best[label]["ms_per_step"]:
            best[label] = row
    if not best:
        raise InputError("no variant gave the forces of its reference; nothing to recommend")
    ranked = sorted(best.values(), key=lambda r: _rank(r, result["accuracy"]))
    text = f"Use {_describe(ranked[0], rows, result['accuracy'])}."
    for other in ranked[1:]:
        faster = ranked[0]["ms_per_step"] / other["ms_per_step"]
        comparison = f"{faster:.2f}x as fast" + _error_text(other, result["accuracy"])
        text += f" {other['potential']} with {other['variant']} is {comparison}."
    if wrong:
        text += f" Do not use {', '.join(wrong)}: its forces differ from the reference."
    return text


def _rank(row: dict, accuracy: dict) -> float:
    """Speed decides among potentials of like accuracy: time times the error."""
    errors = accuracy.get(row["potential"])
    return row["ms_per_step"] * (next(iter(errors.values())) if errors else 1.0)


def _describe(row: dict, rows: list[dict], accuracy: dict) -> str:
    text = f"{row['potential']} with {row['variant']} here: {row['ms_per_step']:.3f} ms/step"
    if len({r.get("threads") for r in rows}) > 1:
        text += f" on {row['threads']} threads"
    if "ns_per_day" in row:
        text += f", {row['ns_per_day']:.1f} ns/day"
    others = [r for r in rows if r["potential"] == row["potential"] and r is not row]
    if others:
        slowest = max(others, key=lambda r: r["ms_per_step"])
        ratio = slowest["ms_per_step"] / row["ms_per_step"]
        text += f", {ratio:.1f}x faster than {slowest['variant']}"
        if slowest.get("threads") != row.get("threads"):
            text += f" on {slowest['threads']} threads"
    if "dF64_eV_A" in row:
        text += (
            f", with the forces of the reference to {row['dF_eV_A']:.0e} eV/Å in {row['dtype']}"
            f" ({row['dF64_eV_A']:.0e} in float64)"
        )
    return text + _error_text(row, accuracy)


def _error_text(row: dict, accuracy: dict) -> str:
    errors = accuracy.get(row["potential"])
    if not errors:
        return ""
    name, value = next(iter(errors.items()))
    return f", force error {value:.0f} meV/Å ({name})"


def force_errors(manifest: dict) -> dict[str, float]:
    """Data set -> force RMSE in meV/Å, from the accuracy table of a manifest; tests first."""
    table = manifest.get("accuracy") or {}
    found = {
        name: overall(groups)["forces_rmse"]
        for name, groups in table.items()
        if isinstance(groups, dict) and groups and "forces_rmse" in overall(groups)
    }
    # 300K before 1200K
    return dict(sorted(found.items(), key=lambda x: (x[0] == "valid", len(x[0]), x[0])))
