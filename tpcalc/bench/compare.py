"""How far each variant is from the reference, on the frames that were run."""

from __future__ import annotations

import numpy as np
from ase import Atoms

from tpcalc.autotune import runnable_variants
from tpcalc.calculator import TPCalculator
from tpcalc.errors import InputError
from tpcalc.potential import Potential
from tpcalc.tensor_products import variants_of


def choose_variants(
    potential: Potential, wanted: list[str] | None
) -> tuple[list[str], dict[str, str]]:
    """Variants to run, the function's reference first, and why others cannot run here.

    Args:
        potential: to be run.
        wanted: names, or None for all exact ones.

    Raises:
        InputError: none of the wanted variants computes this function.
    """
    if wanted is None:
        return runnable_variants(potential)
    function = potential.config["function"]
    own = [name for name in wanted if name.split("/")[0].split(":")[0] == function]
    if not own:
        known = ", ".join(variants_of(function))
        raise InputError(f"none of {', '.join(wanted)} computes {function!r}; choose from {known}")
    return own, {}


def differences(potential, variants: list[str], frames: list[Atoms], **options) -> dict[str, dict]:
    """Largest differences from the function's reference in float64.

    Returns:
        variant -> `dE_eV_atom`, `dF_eV_A` in the dtype that runs, and `dE64_eV_atom`,
        `dF64_eV_A` in float64 with the network, where an exact variant shows round-off only.
    """
    device, dtype = options.get("device", "cpu"), options.get("dtype", "float32")
    calculator = TPCalculator(potential, device=device, dtype="float64")
    function = calculator.potential.config["function"]
    reference = calculator.swap(f"{function}/reference").evaluate(frames)
    result = {}
    for variant in variants:
        double = calculator.swap(variant).evaluate(frames)
        run = double
        if dtype != "float64" or options.get("radial", "network") != "network":
            run = TPCalculator(potential, variant, **options).evaluate(frames)
        result[variant] = {
            "dE_eV_atom": _largest(run, reference, "energy"),
            "dF_eV_A": _largest(run, reference, "forces"),
            "dE64_eV_atom": _largest(double, reference, "energy"),
            "dF64_eV_A": _largest(double, reference, "forces"),
        }
    return result


def _largest(a: list[dict], b: list[dict], key: str) -> float:
    """Largest difference over frames; energies per atom."""
    scale = [len(x["forces"]) if key == "energy" else 1 for x in a]
    return float(max(np.abs(x[key] - y[key]).max() / n for x, y, n in zip(a, b, scale)))
