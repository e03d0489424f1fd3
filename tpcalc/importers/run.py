"""`tpcalc import`: a foreign model in, NAME.safetensors out, compared on probe structures."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tpcalc.calculator import TPCalculator
from tpcalc.errors import CheckFailed, InputError, check_name
from tpcalc.importers import foreign, mace, nequip, nequix, sevennet
from tpcalc.importers.probes import golden, probe_structures
from tpcalc.potential import Potential
from tpcalc.storage import save_potential
from tpcalc.verify import LIMITS, differences

SOURCES = ("nequix", "mace", "sevennet", "nequip")
# largest difference from the original in float64 that passes: eV/atom, eV/Å, eV/Å^3
TOLERANCE = {"energy": 1e-9, "forces": 1e-8, "stress": 1e-9}
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
    if source == "nequip":
        nequip.refuse_compiled(path)
    interpreter = _interpreter(path, source, python, trust)
    potential, extra = _convert(path, source, head, interpreter)
    probes = probe_structures(potential.species, potential.cutoff)
    structures = list(probes.values())
    # a variant in plain torch: an import shall not wait for kernels to compile
    ours = TPCalculator(potential, "cg/grouped", dtype="float64", skin=0.0).evaluate(structures)
    theirs, difference = None, None
    if interpreter is not None and trust:
        theirs = foreign.evaluate_original(path, source, structures, interpreter, head)
        difference = compare(ours, theirs, list(probes))
    extra["imported"] = {
        "file": path.name, "format": source, "head": head or "",
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "computed_by": f"{source}, float64" if theirs else "tpcalc cg/grouped, float64",
        "probes": [golden(*entry) for entry in zip(probes, structures, theirs or ours)],
        "difference": difference or {},
        "tolerance": TOLERANCE if theirs else {key: LIMITS["float64"][key] for key in TOLERANCE},
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


def compare(ours: list[dict], theirs: list[dict], names: list[str]) -> dict[str, float]:
    """Largest differences: energy (eV/atom), forces (eV/Å), stress (eV/Å^3).

    Raises:
        CheckFailed: more than `TOLERANCE`, naming the structure.
    """
    worst = dict.fromkeys(TOLERANCE, 0.0)
    for name, a, b in zip(names, ours, theirs, strict=True):
        here = differences(a, b)
        size = max(1.0, float(abs(b["forces"]).max()))  # round-off grows with the forces
        if any(value > TOLERANCE[key] * size for key, value in here.items()):
            found = ", ".join(f"{value:.1e} ({key})" for key, value in here.items())
            allowed = ", ".join(f"{TOLERANCE[key] * size:.0e}" for key in here)
            raise CheckFailed(
                f"the imported model differs from the original on {name!r}: {found} in eV/atom, "
                f"eV/Å, eV/Å^3; allowed {allowed}. Nothing was written; please report this model"
            )
        worst = {key: max(worst[key], here.get(key, 0.0)) for key in worst}
    return worst
