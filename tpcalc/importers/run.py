"""`tpcalc import`: a foreign model in, NAME.safetensors out, compared on probe structures."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, covalent_radii

from tpcalc.errors import CheckFailed, InputError, check_name
from tpcalc.evaluator import Evaluator
from tpcalc.importers import foreign, mace, nequip, nequix, sevennet
from tpcalc.potential import Potential
from tpcalc.storage import save_potential

SOURCES = ("nequix", "mace", "sevennet", "nequip")
# largest difference from the original that passes: eV/atom, eV/Å. SevenNet computes in float32
TOLERANCE = {"mace": (1e-8, 1e-7), "nequip": (1e-8, 1e-7), "sevennet": (5e-6, 1e-4)}
_EXECUTES = ("mace", "nequip")  # their files are pickles of modules: loading runs code


def import_model(path, source: str, output, head: str | None = None, python: str | None = None,
                 trust: bool = False) -> dict:  # fmt: skip
    """Convert `path` and write `output`; returns a summary (licence, differences, file).

    The manifest keeps licence, citation, the sha256 of the original, and the results on probe
    structures: the original's own where its package ran, else ours in float64.

    Raises:
        InputError: unreadable file, something that cannot be carried, or no `trust` where
            reading the file means running code from it.
        MissingDependency: a foreign package is needed and absent.
        CheckFailed: our numbers differ from the original's by more than `TOLERANCE`.
    """
    check_name("--from", source, SOURCES)
    path, output = Path(path), Path(output)
    if not path.is_file():
        raise InputError(f"no model at {path}")
    if output.suffix != ".safetensors":
        raise InputError(f"-o {output}: the name must end in .safetensors")
    interpreter = _interpreter(path, source, python, trust)
    potential, extra = _convert(path, source, head, interpreter)
    structures = probe_structures(potential)
    ours = evaluate_ours(potential, structures)
    theirs, difference = None, None
    if interpreter is not None and trust and source in TOLERANCE:
        theirs = foreign.evaluate_original(path, source, structures, interpreter, head)
        difference = compare(ours, theirs, structures, source)
    extra["imported"] = {
        "file": path.name, "format": source, "head": head or "",
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "computed_by": source if theirs else "tpcalc cg/reference, float64",
        "probes": [_golden(a, r) for a, r in zip(structures, theirs or ours)],
        "difference": difference or {},
    }  # fmt: skip
    save_potential(potential, output, extra)
    return {
        "output": str(output), "licence": extra["licence"], "citation": extra["citation"],
        "species": potential.species, "difference": difference,
        "parameters": sum(p.numel() for p in potential.parameters()),
    }  # fmt: skip


def _interpreter(path: Path, source: str, python: str | None, trust: bool) -> Path | None:
    if source not in foreign.PACKAGES:
        return None
    found = foreign.find_python(source, python)
    if source not in _EXECUTES:
        return found
    if not trust:
        raise InputError(
            f"{path} is a pickle; reading it runs code from it. If you trust where it came from, "
            "add --trust"
        )
    if found is None:
        raise InputError(
            f"{source} files are read by {source} itself in a Python of its own: name one with "
            f"--python, or make one with `tpcalc import --make-env {source}`"
        )
    return found


def _convert(path: Path, source: str, head: str | None, python) -> tuple[Potential, dict]:
    if head and source != "mace":
        raise InputError(f"--head {head}: {source} models have no heads")
    if source == "nequix":
        return nequix.load(path)
    if source == "sevennet":
        return sevennet.load(path)
    if source == "mace":
        return mace.load(path, python, head)
    return nequip.load(path, python)


def probe_structures(potential: Potential) -> list[Atoms]:
    """A molecule, a triclinic crystal, and an isolated atom, of elements the potential knows."""
    known = potential.species
    usual = [s for s in ("H", "C", "O", "Si", "Cu") if s in known]
    symbols = (usual + [s for s in known if s not in usual])[:3]
    radius = [covalent_radii[atomic_numbers[s]] for s in symbols]
    first, last = symbols[0], symbols[-1]
    bond = max(1.1 * (radius[0] + radius[-1]), 1.5)
    rng = np.random.default_rng(0)
    corners = np.array([[0, 0, 0], [1, 1, 0], [1, 0, 1], [0, 1, 1]]) * bond / 2**0.5
    names = [symbols[i % len(symbols)] for i in range(4)]
    molecule = Atoms(names, corners + rng.normal(scale=0.05, size=(4, 3)))
    a = max(2.6 * (radius[0] + radius[-1]), 4.0)
    cell = a * np.array([[1.0, 0.0, 0.0], [0.1, 1.02, 0.0], [-0.05, 0.08, 0.97]])
    crystal = Atoms(
        [first] * 4 + [last] * 4,
        scaled_positions=[[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0],
                          [0.5, 0, 0], [0.5, 0.5, 0.5], [0, 0, 0.5], [0, 0.5, 0]],
        cell=cell, pbc=True,
    )  # fmt: skip
    crystal.positions += rng.normal(scale=0.05, size=(8, 3))
    return [molecule, crystal, Atoms([first])]


def evaluate_ours(potential: Potential, structures: list[Atoms]) -> list[dict]:
    """Energy, forces and (with a full cell) stress of each, in the potential's dtype."""
    evaluator = Evaluator(potential, skin=0.0)
    results = []
    for atoms in structures:
        run = evaluator(atoms.positions, atoms.cell.array, atoms.pbc, atoms.numbers)
        result = {"energy": float(run.energies.sum()), "forces": run.forces}
        if atoms.pbc.all():
            result["stress"] = -run.virials.sum(0) / atoms.get_volume()
        results.append(result)
    return results


def compare(ours: list[dict], theirs: list[dict], structures: list[Atoms], source: str) -> dict:
    """Largest differences: energy (eV/atom), forces (eV/Å), stress (eV/Å^3).

    Raises:
        CheckFailed: more than `TOLERANCE` of this source, naming the structure.
    """
    worst = {"energy_per_atom": 0.0, "forces": 0.0, "stress": 0.0}
    for a, b, atoms in zip(ours, theirs, structures):
        here = {
            "energy_per_atom": abs(a["energy"] - b["energy"]) / len(atoms),
            "forces": float(np.abs(a["forces"] - b["forces"]).max()),
            "stress": float(np.abs(a["stress"] - b["stress"]).max())
            if "stress" in a and "stress" in b
            else 0.0,
        }
        size = 1.0 + float(np.abs(b["forces"]).max())  # round-off grows with the forces
        energy, forces = (t * size for t in TOLERANCE[source])
        if here["energy_per_atom"] > energy or here["forces"] > forces:
            raise CheckFailed(
                f"the imported model differs from the original on {atoms.symbols}: "
                f"{here['energy_per_atom']:.1e} eV/atom, {here['forces']:.1e} eV/Å; allowed "
                f"{energy:.0e}, {forces:.0e}. Nothing was written; please report this model"
            )
        worst = {key: max(worst[key], here[key]) for key in worst}
    return worst


def _golden(atoms: Atoms, result: dict) -> dict:
    plain = foreign.as_plain(atoms) | {
        "energy": result["energy"],
        "forces": np.asarray(result["forces"]).tolist(),
    }
    if "stress" in result:
        plain["stress"] = np.asarray(result["stress"]).tolist()
    return plain
