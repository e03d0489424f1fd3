"""`make bench-import`: imported models against their originals, each row a `tpcalc bench import`.

python -m tests.importers.bench_originals [--only WORD ...] [--repeats N] [--out TABLE.md]

Models, and what nequip-compile and symmetrix make of them, are kept in ~/.cache/tpcalc/originals,
so that a second call is quicker: only symmetrix' compiler and nequip-compile take minutes.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tpcalc.bench.workloads import REPOSITORY
from tpcalc.importers.foreign import environments, find_python, worker_environment
from tpcalc.progress import progress
from tpcalc.tables import format_table, table_cells

HERE = Path(__file__).parent
SPLINE, PLAIN = ["--radial", "spline"], ["--plain"]
SERIAL = ["--form", "serial", "--dtype", "float64"]
# model -> (package, suffix of its file); the others are of mace
FORMAT = {
    "sevennet": ("sevennet", "pth"),
    "nequip": ("nequip", "ckpt"),
    "nequix": ("nequix", "nqx"),
}


def rows():
    """(model, system, against, options, times faster that issue 6 asks for or None)."""
    for system in ("water:64", "silicon:4"):
        for radial in ([], SPLINE):
            yield "sevennet", system, "sevennet", [*radial, *PLAIN], 12
            yield "sevennet", system, "sevennet", radial, 8
    for model, system in (("off_small", "water:64"), ("off_small", "3bpa"),
                          ("off_medium", "water:64"), ("mpa_medium", "silicon:3"),
                          ("mpa_medium", "silicon:4")):  # fmt: skip
        yield model, system, "symmetrix", SPLINE, 1
        yield model, system, "mace", [], None
    yield "off_small", "3bpa", "symmetrix", [*SPLINE, *SERIAL], 1
    for system, bar in (("water:64", 7), ("3bpa", 2)):
        yield "nequip", system, "nequip", PLAIN, bar
        yield "nequip", system, "nequip", [*SPLINE, *PLAIN], bar
        yield "nequip", system, "nequip", SPLINE, None
    yield "nequix", "silicon:2", "e3nn", [], 12
    yield "nequix", "silicon:2", "e3nn", SPLINE, 12


def python_of(kind):
    """The Python named by TPCALC_PYTHON_KIND, or made by `tpcalc import --make-env KIND`."""
    python = find_python(kind, os.environ.get(f"TPCALC_PYTHON_{kind.upper()}"))
    if python is None:
        raise SystemExit(f"no Python with {kind}; run `tpcalc import --make-env {kind}`")
    return python


def call(*command, foreign=True):
    """Run it, what it prints to stderr; `foreign`: in the environment of another Python."""
    environment = worker_environment() if foreign else None
    subprocess.run([str(x) for x in command], check=True, env=environment, stdout=sys.stderr)


def make(model, path):
    """The original: random or briefly trained weights, or the ones in the package."""
    if model == "nequix":
        data = Path(os.environ.get("TPCALC_DATA") or REPOSITORY.parent / "shared" / "data")
        shutil.copy(data / "foreign" / "nequix-mp-1.nqx", path)
    elif model == "sevennet":
        find = "import os, sevenn; print(os.path.dirname(sevenn.__file__))"
        package = subprocess.run([python_of("sevennet"), "-c", find], check=True, text=True,
                                 capture_output=True).stdout.strip().splitlines()[-1]  # fmt: skip
        (checkpoint,) = Path(package).glob("pretrained_potentials/SevenNet_0__11Jul2024/*.pth")
        shutil.copy(checkpoint, path)
    elif model == "nequip":
        data = REPOSITORY / "examples" / "data" / "xtb_small.xyz"
        call(python_of("nequip"), HERE / "make_nequip.py", "bench", path, data)
    else:
        call(python_of("mace"), HERE / "make_mace.py", model, path)


def prepare(folder, model, against):
    """(our NAME.safetensors, the file that `against` runs), made if they are not there."""
    kind, suffix = FORMAT.get(model, ("mace", "model"))
    path = folder / f"{model}.{suffix}"
    ours = folder / f"{model}.safetensors"
    if not path.is_file():
        make(model, path)
    if not ours.is_file():
        python = [] if kind == "nequix" else ["--python", python_of(kind)]
        call(sys.executable, "-m", "tpcalc", "import", path, "--from", kind, *python, "--trust",
             "-o", ours, foreign=False)  # fmt: skip
    compiled = {
        "nequip": (folder / f"{model}.nequip.pt2", ["nequip-compile", path, "OUT", "--mode",
                   "aotinductor", "--device", "cpu", "--target", "ase"]),
        "symmetrix": (folder / f"{model}.json", ["symmetrix_extract_mace", "-m", path, "-o",
                                                 "OUT"]),
    }  # fmt: skip
    if against not in compiled:
        return ours, path
    theirs, (program, *arguments) = compiled[against]
    if not theirs.is_file():
        arguments = [theirs if x == "OUT" else x for x in arguments]
        call(python_of(against).with_name(program), *arguments)
    return ours, theirs


def measure(folder, row, repeats):
    """One row of the table."""
    model, system, against, options, bar = row
    ours, theirs = prepare(folder, model, against)
    command = [
        "bench", "import", ours, "--against", against, "--system", system, "--mode", "torchscript",
        "--repeats", repeats, *options,
    ]  # fmt: skip
    if against != "e3nn":
        command += ["--original", theirs, "--python", python_of(against), "--trust"]
    command = [str(x) for x in command]
    run = subprocess.run([sys.executable, "-m", "tpcalc", *command, "--json"], text=True,
                         stdout=subprocess.PIPE)  # fmt: skip
    if run.returncode:
        raise subprocess.CalledProcessError(run.returncode, ["tpcalc", *command])
    result = json.loads(run.stdout)
    their, our = result["rows"]
    faster = result["times_faster"]
    return {
        "model": model, "system": system, "against": f"{against}, {their['variant']}",
        "options": " ".join(x for x in options if not x.startswith(("--form", "serial"))),
        "theirs": their["ms"], "theirs_cpu": their["cpu_ms"], "ours": our["ms"],
        "ours_cpu": our["cpu_ms"], "faster": faster, "faster_cpu": result["times_faster_cpu"],
        "bar": "" if bar is None else f"{bar}{'' if faster >= bar else ' missed'}",
        "forces": result["difference"]["forces"], "memory": their["peak_MB"],
        "our_memory": our["peak_MB"], "command": "tpcalc " + " ".join(command),
    }  # fmt: skip


COLUMNS = {
    "model": "model", "system": "system", "against": "original", "options": "options",
    "theirs": "original, ms .1f", "theirs_cpu": "CPU .1f", "ours": "tpcalc, ms .1f",
    "ours_cpu": "CPU .1f", "faster": "times .1f", "faster_cpu": "CPU .1f", "bar": "bar",
    "forces": "eV/Å .0e", "memory": "original, MB .0f", "our_memory": "tpcalc, MB .0f",
}  # fmt: skip


def markdown(table):
    """The table, and the command of each row."""
    heads, columns = table_cells(table, COLUMNS)
    lines = [heads, ["---"] * len(heads), *zip(*columns)]
    text = ["| " + " | ".join(cells) + " |" for cells in lines]
    return "\n".join([*text, "", "```", *(row["command"] for row in table), "```", ""])


def main():
    """Every row whose model, system or original is named, or all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", help="rows with one of these words: a model, a system")
    parser.add_argument("--repeats", type=int, default=5, help="timed calls of each (5)")
    parser.add_argument("--out", help="also write the table here, NAME.md")
    args = parser.parse_args()
    folder = environments().with_name("originals")
    folder.mkdir(parents=True, exist_ok=True)
    chosen = [r for r in rows() if not args.only or set(args.only) & set(r[:3])]
    table, failed = [], []
    with progress(len(chosen), "originals", "row") as bar:
        for row in chosen:
            bar.update()
            try:
                table.append(measure(folder, row, args.repeats))
            except subprocess.CalledProcessError as error:  # the other rows are measured
                failed.append(" ".join(map(str, error.cmd)))
                continue
            if args.out:
                Path(args.out).write_text(markdown(table))
    print(format_table(table, COLUMNS))
    if failed:
        raise SystemExit("failed:\n" + "\n".join(failed))


if __name__ == "__main__":
    main()
