"""Certificates: does every exact variant of a potential give the potential's own numbers?

Energy-only checks have let wrong kernels through elsewhere, so four things are measured on
structures of many shapes: energy, forces and stress against the function's reference, and the
forces of each variant against finite differences of its own energy. An imported potential is
measured against the results of its original as well, which its manifest keeps.
"""

from __future__ import annotations

import platform
import time

import numpy as np
import torch
from ase import Atoms
from ase.data import chemical_symbols

import tpcalc
from tpcalc.autotune import runnable_variants
from tpcalc.calculator import TPCalculator
from tpcalc.errors import CheckFailed, InputError, check_name
from tpcalc.nn.radial_spline import sees_species
from tpcalc.potential import Potential
from tpcalc.progress import progress
from tpcalc.storage import update_manifest

# largest differences allowed: eV/atom, eV/Å, eV/Å³, and forces against finite differences
# (relative); those of forces and stress grow with the forces where these exceed 1 eV/Å
LIMITS = {
    "float64": {"energy": 1e-10, "forces": 1e-9, "stress": 1e-10, "finite_difference": 1e-6},
    "float32": {"energy": 1e-4, "forces": 1e-3, "stress": 1e-4},
}
# radial splines are another potential, by a little: of the network, not of its own energy
SPLINE_LIMITS = {
    "float64": {"energy": 1e-5, "forces": 1e-4, "stress": 1e-5, "finite_difference": 1e-6},
    "float32": LIMITS["float32"],
}
SPLINED = 8  # elements: 89 would need 7921 tables, for each variant and dtype
STEP = 1e-4  # Å of the finite differences
DIRECTIONS = 6  # random directions per structure in which the forces are differentiated


def probe_structures(species: list[str], cutoff: float, seed: int = 0) -> dict[str, Atoms]:
    """Structures of all the shapes that break neighbour lists and kernels, seeded.

    A molecule, a slab, a wire, a triclinic crystal, a cell smaller than the cutoff, one atom,
    two atoms out of reach, a flat and a linear molecule; together they hold every species.
    """
    rng = np.random.default_rng(seed)
    sheared = np.array([[1.0, 0, 0], [0.2, 1.0, 0], [-0.1, 0.3, 1.0]])
    flat = _cluster(rng, species, 8, 7.0)
    flat.positions = [[1.3 * (n % 3), 1.3 * (n // 3), 0.0] for n in range(8)]
    linear = _cluster(rng, species, 4, 7.0)
    linear.positions = [[0.0, 0.0, 1.3 * n] for n in range(4)]
    count = min(3 * len(species), max(24, len(species)))
    far = Atoms([species[0], species[-1]], positions=[[0, 0, 0], [cutoff + 1.0, 0, 0]])
    return {
        "molecule": _cluster(rng, species, count, max(6.0, 1.7 * count ** (1 / 3))),
        "slab": _cluster(rng, species, 12, 6.0, pbc=[True, True, False]),
        "wire": _cluster(rng, species, 8, 5.0, pbc=[False, False, True]),
        "triclinic": _cluster(rng, species, 12, 6.0, pbc=True, shape=sheared),
        "small cell": _cluster(rng, species, 2, 0.6 * cutoff, pbc=True, shape=sheared),
        "one atom": Atoms(species[0]),
        "far apart": far,
        "flat": flat,
        "linear": linear,
    }


def verify(
    potential,
    variants: list[str] | None = None,
    dtypes: tuple[str, ...] = ("float64", "float32"),
    device: str = "cpu",
    store: bool = False,
    radial: str = "network",
) -> dict:
    """Measure every variant against the reference, its own energy and (where the potential was
    imported) the original's stored results; see the module's text.

    Args:
        potential: a path or `Potential`.
        variants: names; None takes every exact variant that can run here.
        dtypes: to check.
        device: anything torch accepts.
        store: write the certificate into the manifest of the file.
        radial: "spline" measures the fused variants with radial splines, against the reference
            with its network and within `SPLINE_LIMITS`; where each pair of elements has splines of
            its own and there are more than `SPLINED` elements, on some of them ("elements").

    Returns:
        The certificate: {"rows": one per variant and dtype, "passed", "limits", versions}.

    Raises:
        CheckFailed: a variant is outside of the limits; `.result` holds the certificate.
        InputError: unknown variant or dtype.
    """
    if store and isinstance(potential, Potential):
        raise InputError("a certificate is stored in a file; give the path of NAME.safetensors")
    if store and radial != "network":
        raise InputError("a certificate is stored for the network alone; leave out --store")
    calculator = TPCalculator(potential, device=device, dtype="float64")
    own = calculator.potential
    names = variants or runnable_variants(own)[0]
    if radial == "spline" and variants is None:
        names = [name for name in names if name.endswith("/fused")]
    allowed = SPLINE_LIMITS if radial == "spline" else LIMITS
    goldens = stored_goldens(own)
    species = own.species
    if radial == "spline":
        species, goldens = _splined_species(own, goldens)
    probes = probe_structures(species, own.cutoff)
    structures = list(probes.values())
    expected = calculator.swap(f"{own.config['function']}/reference").evaluate(structures)
    rows = []
    with progress(len(names) * len(dtypes), "verify", "check") as bar:
        for dtype in dtypes:
            limits = allowed[check_name("dtype", dtype, allowed)]
            for name in names:
                test = TPCalculator(potential, name, device, dtype, radial=radial)
                row = _measure(test, structures, expected, limits) | {"dtype": dtype}
                rows.append(_against_original(row, test, goldens, limits))
                bar.update()
    certificate = {
        "rows": rows,
        "passed": all(row["passed"] for row in rows),
        "limits": allowed,
        "structures": list(probes),
        "elements": species,
        "versions": {"tpcalc": tpcalc.__version__, "torch": torch.__version__},
        "machine": platform.machine(),
        "device": str(device),
        "date": time.strftime("%Y-%m-%d"),
    }
    if not certificate["passed"]:
        bad = [f"{r['variant']} in {r['dtype']} ({r['worst']})" for r in rows if not r["passed"]]
        error = CheckFailed(f"outside of the limits: {'; '.join(bad)}; do not use")
        error.result = certificate
        raise error
    if store:
        update_manifest(potential, certificates=certificate)
    return certificate


def _cluster(rng, species, count: int, side: float, pbc=False, shape=None) -> Atoms:
    """`count` atoms at random, at least 1.1 Å apart, images included; every species in turn."""
    cell = side * (np.eye(3) if shape is None else shape)
    symbols = [species[n % len(species)] for n in range(count)]
    atoms = Atoms(cell=cell, pbc=pbc)
    while len(atoms) < count:
        trial = atoms + Atoms([symbols[len(atoms)]], [rng.random(3) @ cell])
        distances = trial.get_all_distances(mic=True)[-1, :-1]
        if len(distances) == 0 or distances.min() > 1.1:
            atoms = trial
    if not np.any(pbc):
        atoms.set_cell(None)
    return atoms


def differences(result: dict, expected: dict) -> dict[str, float]:
    """Largest differences of one structure: energy (eV/atom), forces (eV/Å), stress (eV/Å^3)."""
    found = {"energy": abs(result["energy"] - expected["energy"]) / len(expected["forces"])}
    for key in ("forces", "stress"):
        if key in expected:
            found[key] = float(np.abs(np.asarray(result[key]) - expected[key]).max())
    return found


def worst_differences(results: list[dict], expected: list[dict]) -> dict[str, float]:
    """The largest `differences`, in units of the largest force where that is beyond 1 eV/Å."""
    worst = dict.fromkeys(("energy", "forces", "stress"), 0.0)
    for result, reference in zip(results, expected, strict=True):
        force = max(1.0, float(np.abs(reference["forces"]).max()))
        for key, value in differences(result, reference).items():
            worst[key] = max(worst[key], value / force)
    return worst


def stored_goldens(potential: Potential) -> dict | None:
    """What `tpcalc import` kept in the manifest: {"probes": structures with results,
    "tolerance"}; None for a potential that was not imported.

    Raises:
        InputError: imported before tolerances were kept.
    """
    imported = getattr(potential, "manifest", {}).get("imported")
    if imported is not None and "tolerance" not in imported:
        raise InputError("the manifest has no tolerance of the import; run tpcalc import again")
    return imported


def _splined_species(potential: Potential, goldens: dict | None) -> tuple[list[str], dict | None]:
    """At most `SPLINED` elements, and the stored results that have no others: those of the stored
    structures of few elements, then the first ones."""
    if not sees_species(potential) or len(potential.species) <= SPLINED:
        return potential.species, goldens
    wanted: dict[str, None] = {}
    probes = [] if goldens is None else goldens["probes"]
    for probe in sorted(probes, key=lambda probe: len(set(probe["numbers"]))):
        both = wanted | dict.fromkeys(chemical_symbols[z] for z in probe["numbers"])
        wanted = both if len(both) <= SPLINED else wanted
    wanted = wanted or dict.fromkeys(potential.species[:SPLINED])
    numbers = {chemical_symbols.index(symbol) for symbol in wanted}
    kept = [probe for probe in probes if numbers.issuperset(probe["numbers"])]
    return list(wanted), goldens and {**goldens, "probes": kept}


def _against_original(row: dict, calculator: TPCalculator, goldens: dict | None, limits) -> dict:
    """The row with the differences from the stored results of the original, where it has some."""
    if goldens is None:
        return row
    structures = [
        Atoms(**{k: probe[k] for k in ("numbers", "positions", "cell", "pbc")})
        for probe in goldens["probes"]
    ]
    worst = worst_differences(calculator.evaluate(structures), goldens["probes"])
    allowed = {key: max(goldens["tolerance"][key], limits[key]) for key in worst}
    row |= {f"original_{key}": value for key, value in worst.items()}
    key = max(worst, key=lambda k: worst[k] / allowed[k])
    if worst[key] > allowed[key]:
        row["passed"] = False
        row["worst"] = f"{key} of the original {worst[key]:.1e}, limit {allowed[key]:.0e}"
    return row


def _measure(calculator: TPCalculator, structures, expected, limits) -> dict:
    results = calculator.evaluate(structures)
    worst = dict.fromkeys(limits, 0.0) | worst_differences(results, expected)
    if "finite_difference" in limits:
        for atoms, result in zip(structures, results):
            force = max(1.0, float(np.abs(result["forces"]).max()))
            error = _finite_difference(calculator, atoms, result["forces"]) / force
            worst["finite_difference"] = max(worst["finite_difference"], error)
    ratios = {key: worst[key] / limits[key] for key in limits}
    key = max(ratios, key=ratios.get)
    return {
        "variant": calculator.variant,
        "class": calculator.potential.model.layers[0].conv.algorithm_class,  # what ran
        **{name: float(value) for name, value in worst.items()},
        "worst": f"{key} {worst[key]:.1e}, limit {limits[key]:.0e}",
        "passed": bool(ratios[key] <= 1.0),
    }


def _finite_difference(calculator: TPCalculator, atoms: Atoms, forces: np.ndarray) -> float:
    """Largest error of forces along random directions of unit length, fourth order, eV/Å."""
    rng = np.random.default_rng(len(atoms))
    directions = rng.normal(size=(DIRECTIONS, len(atoms), 3))
    directions /= np.linalg.norm(directions, axis=(1, 2), keepdims=True)
    moved = []
    for direction in directions:
        for steps in (-2, -1, 1, 2):
            copy = atoms.copy()
            copy.positions += steps * STEP * direction
            moved.append(copy)
    e = np.array([r["energy"] for r in calculator.evaluate(moved)]).reshape(DIRECTIONS, 4)
    slopes = (e[:, 0] - 8 * e[:, 1] + 8 * e[:, 2] - e[:, 3]) / (12 * STEP)
    return float(np.abs(slopes + (directions * forces).sum(axis=(1, 2))).max())
