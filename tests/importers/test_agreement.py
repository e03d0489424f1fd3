"""Imported models against their originals, on one list of structures: `probe_structures`."""

from types import SimpleNamespace

import numpy as np
import pytest
from tests.importers.agreement import assert_agrees
from tests.importers.originals import original_model, original_python
from tpcalc import TPCalculator
from tpcalc.autotune import runnable_variants
from tpcalc.importers import mace, nequip, sevennet
from tpcalc.importers.foreign import evaluate_original
from tpcalc.importers.probes import probe_structures
from tpcalc.verify import worst_differences

MODELS = [
    ("mace", "off_small"), ("mace", "off_medium"), ("mace", "mpa_medium"),
    ("sevennet", "0"), ("sevennet", "l3i5"),
    ("nequip", "tiny_plain"), ("nequip", "trained"), ("nequip", "trained_float32"),
]  # fmt: skip
# our float32 error over the original's own. NequIP keeps positions and spherical harmonics in
# float64; we round edge vectors to float32, and take lengths and radial basis in float64 from there
FACTORS = {"mace": 1.5, "sevennet": 1.5, "nequip": 2.0}
SMALL = 1e-7  # eV/atom: round-off of an energy of 1 eV/atom; tiny models have less
COPIES = 3  # of each probe, rattled: one structure's float32 error is a draw, heavy-tailed
pytestmark = pytest.mark.imports


def read(package, path, python):
    """The converted potential."""
    if package == "sevennet":
        return sevennet.load(path)[0]
    return {"mace": mace, "nequip": nequip}[package].load(path, python)[0]


@pytest.fixture(scope="module", params=MODELS, ids="-".join)
def case(request, tmp_path_factory):
    """One model: ours, its probes by name and rattled copies of them, the original's results of
    both, in both precisions."""
    package, kind = request.param
    python = original_python(package)
    path = original_model(package, kind, tmp_path_factory.mktemp("originals"))
    potential = read(package, path, python)
    probes = probe_structures(potential.species, potential.cutoff)
    structures = [*probes.values(), *rattled(probes)]
    theirs = {
        dtype: evaluate_original(path, package, structures, python, dtype=dtype)
        for dtype in ("float64", "float32")
    }
    return SimpleNamespace(
        potential=potential, probes=probes, structures=structures, theirs=theirs, package=package
    )


def rattled(probes) -> list:
    """Copies with other roundings, of those that have edges."""
    rng = np.random.default_rng(0)
    copies = [atoms.copy() for atoms in probes.values() if len(atoms) > 2 for _ in range(COPIES)]
    for atoms in copies:
        atoms.positions += rng.normal(scale=0.03, size=atoms.positions.shape)
    return copies


def ours(case, structures, variant="cg/grouped", dtype="float64"):
    """Results of structures."""
    return TPCalculator(case.potential, variant, dtype=dtype, skin=0.0).evaluate(structures)


def test_float64_equals_the_original(case):
    results = ours(case, list(case.probes.values()))
    assert_agrees(case.probes, results, case.theirs["float64"][: len(results)])
    for atoms, expected in zip(case.probes.values(), case.theirs["float64"]):
        assert ("stress" in expected) == atoms.pbc.all()
    assert max(np.abs(r["forces"]).max() for r in case.theirs["float64"]) > 0.01


@pytest.mark.parametrize("variant", ["cg/grouped", "cg/fused"])
def test_float32_errors_are_those_of_the_original(case, variant):
    """Against the original's float64: energies of all structures, forces of the middle one."""
    exact, factor = case.theirs["float64"], FACTORS[case.package]
    results = ours(case, case.structures, variant, "float32")
    for key in ("energy", "forces"):
        own, its = (errors(r, exact, key) for r in (results, case.theirs["float32"]))
        if key == "energy":
            own, its = (np.sqrt(np.mean(np.square(x))) for x in (own, its))
        else:
            own, its = np.median(own), np.median(its)
        print(f"{key}: ours {own:.1e}, {case.package}'s {its:.1e}")
        assert own < max(factor * its, SMALL if key == "energy" else 0.0), key


def errors(results, exact, key) -> list[float]:
    """Root mean square difference of each structure, an energy per atom."""
    found = []
    for result, expected in zip(results, exact):
        atoms = len(expected["forces"]) if key == "energy" else 1
        found.append(float(np.sqrt(np.mean((result[key] - expected[key]) ** 2)) / atoms))
    return found


def test_every_exact_variant_gives_the_same(case):
    names = [n for n in runnable_variants(case.potential)[0] if n != "cg/reference"]
    assert {"cg/e3nn", "cg/fused", "cg/so2"} <= set(names)
    structures = list(case.probes.values())
    reference = ours(case, structures)
    for name in names:
        worst = worst_differences(ours(case, structures, name), reference)
        print(name, worst)
        assert max(worst.values()) < 1e-10, name
