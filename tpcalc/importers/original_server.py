"""Runs in the Python of a foreign package: the original, one evaluation a line.

    python original_server.py KIND FILE

The first line that comes in is a JSON object: dtype, threads, retain (freed memory is kept),
head, form, and structure (numbers, positions, cell, pbc). Each further one is a list of positions;
each is answered by one JSON object: energy (eV), forces (eV/Å), wall and cpu (ms of the call),
peak_MB. The end of the input ends the process.
"""

import json
import os
import runpy
import sys
import time
from pathlib import Path

import numpy as np


def peak_memory():
    """Largest resident memory of this process, 1e6 bytes (ru_maxrss counts the parent, too)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(x.split()[1]) for x in lines if x.startswith("VmHWM")) * 1024 / 1e6


def serve(calculator, kind, path, source, answer):
    """Answer every line of `source`."""
    from ase import Atoms

    request = json.loads(source.readline())
    if request["retain"]:
        allocator = Path(__file__).parents[1] / "kernels" / "allocator.py"  # of tpcalc; no torch
        if not runpy.run_path(str(allocator))["retain_freed_memory"]():
            raise SystemExit("keeping freed memory needs glibc")
    if kind != "symmetrix":
        import torch

        torch.set_num_threads(request["threads"])
    atoms = Atoms(**request["structure"])
    if kind == "symmetrix":  # inverts the cell, also of molecules
        atoms.cell = atoms.cell.complete()
    atoms.calc = calculator(kind, path, request["head"], request["dtype"], request["form"])
    for line in source:
        atoms.positions = np.array(json.loads(line))
        wall, cpu = time.perf_counter(), time.process_time()
        forces = atoms.get_forces()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        answer({
            "energy": float(atoms.get_potential_energy()),
            "forces": np.asarray(forces, dtype=float).tolist(),
            "wall": 1e3 * wall, "cpu": 1e3 * cpu, "peak_MB": peak_memory(),
        })  # fmt: skip


if __name__ == "__main__":
    from original_worker import calculator

    sys.path.pop(0)  # this folder: its mace.py is not the package
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what packages print must not mix with the answers
    serve(calculator, *sys.argv[1:3], sys.stdin, lambda x: print(json.dumps(x), file=channel,
                                                                 flush=True))  # fmt: skip
