"""NequIP models: a tiny one against stored results of nequip; ones trained here by nequip."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk, fcc111, molecule
from tests.importers.originals import original_python
from tests.importers.test_import_mace import assert_equal
from tpcalc.errors import InputError
from tpcalc.importers import foreign, nequip

HERE = Path(__file__).parent
DATA = HERE.parent.parent / "examples" / "data" / "xtb_small.xyz"


def systems():
    """Ethanol, a periodic box of water, a triclinic crystal, a surface, an atom."""
    ethanol = molecule("CH3CH2OH")
    ethanol.rattle(0.05, seed=1)
    water = molecule("H2O", cell=[3.1, 3.2, 3.3], pbc=True) * (2, 1, 1)
    water.rattle(0.05, seed=2)
    crystal = bulk("C", "diamond", a=3.9) * (1, 1, 2)
    crystal.numbers[:] = [6, 8, 1, 7]
    crystal.set_cell(crystal.cell + 0.1 * np.arange(9).reshape(3, 3), scale_atoms=True)
    crystal.rattle(0.1, seed=3)
    surface = fcc111("C", (2, 2, 2), a=3.4, vacuum=4.0)
    surface.rattle(0.05, seed=4)
    return [ethanol, water, crystal, surface, molecule("O")]


@pytest.mark.parametrize("variant", ["cg/reference", "cg/e3nn", "cg/grouped"])
def test_a_tiny_model_equals_nequip(variant):
    given, arrays = foreign.read_handover(HERE / "tiny_parity.npz")
    potential = nequip.convert(given, arrays, variant)
    assert_equal(potential, systems(), json.loads((HERE / "tiny_parity.json").read_text()))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"per_edge_type_cutoff": "1 2"}, "per_edge_type_cutoff"),
        ({"graph_fields": ["charge"]}, "charge"),
        ({"modules": {"pair_potential": "LennardJones"}}, "LennardJones"),
        ({"modules": {"dipole": "DipoleHead"}}, "module dipole"),
        ({"type_names": ["A1", "C", "N", "O"]}, "A1"),
    ],
)
def test_what_cannot_be_carried_is_refused_by_name(change, text):
    given, arrays = foreign.read_handover(HERE / "tiny_parity.npz")
    with pytest.raises(InputError, match=text):
        nequip.convert({**given, **change}, arrays)


@pytest.mark.imports
@pytest.mark.parametrize("kind", ["tiny_plain", "trained", "trained_float32"])
def test_models_trained_by_nequip(kind, tmp_path):
    python = original_python("nequip")
    path = tmp_path / f"{kind}.ckpt"
    command = [python, str(HERE / "make_nequip.py"), kind, str(path), str(DATA)]
    subprocess.run(command, check=True, capture_output=True)
    potential, _ = nequip.load(path, python)
    expected = foreign.evaluate_original(path, "nequip", systems(), python)
    assert_equal(potential.swap("cg/grouped"), systems(), expected)
