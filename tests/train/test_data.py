"""Labels: every defect of a file is one sentence; a batch is its structures one by one."""

import ase.io
import numpy as np
import pytest
import torch
from ase.stress import full_3x3_to_voigt_6_stress
from tests.small import SPECIES, crystal, ethanol, random_potential
from tests.train import tiny
from tpcalc import TPCalculator
from tpcalc.errors import InputError
from tpcalc.train.config import DataConfig
from tpcalc.train.data import find_data, make_batch, make_graphs, read_frames, split_isolated
from tpcalc.train.loss import loss_terms, weighted_sum
from tpcalc.train.predict import predict

KEYS = DataConfig(train="")
STRESS = np.array([[1.0, 0.1, 0.2], [0.1, 2.0, 0.3], [0.2, 0.3, 3.0]])


def written(tmp_path, change, atoms=None):
    """A file with one labelled structure on which `change(atoms)` was done."""
    atoms = atoms or ethanol()
    atoms.info["REF_energy"] = -1.0
    atoms.arrays["REF_forces"] = np.zeros((len(atoms), 3))
    change(atoms)
    ase.io.write(tmp_path / "a.xyz", atoms, format="extxyz")
    return tmp_path / "a.xyz"


def rename(atoms):
    atoms.info["dft_energy"] = atoms.info.pop("REF_energy")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (rename, ["'REF_energy'", "dft_energy", "REF_forces", "data.energy_key"]),
        (lambda a: a.info.update(REF_energy="low"), ["frame 0: REF_energy is not numeric", "low"]),
        (lambda a: a.info.update(REF_energy=np.nan), ["REF_energy", "not finite"]),
        (lambda a: a.info.update(REF_energy=[1.0, 2.0]), ["REF_energy has shape (2,)"]),
        (
            lambda a: a.arrays.update(REF_forces=np.zeros((9, 2))),
            ["REF_forces has shape (9, 2), expected (9, 3)"],
        ),
        (lambda a: a.info.update(REF_stress=np.zeros(5)), ["REF_stress has 5 numbers", "9"]),
        (lambda a: a.info.update(REF_stress=np.zeros(9)), ["REF_stress with pbc [False"]),
    ],
)
def test_wrong_labels(tmp_path, change, words):
    path = written(tmp_path, change)
    with pytest.raises(InputError) as error:
        read_frames(path, KEYS, need=("energy", "forces"))
    assert all(word in str(error.value) for word in words), str(error.value)


def test_keys_that_ase_moves_to_its_calculator(tmp_path):
    path = written(tmp_path, lambda a: a.info.update(energy=-2.0))
    keys = DataConfig(train="", energy_key="energy")
    assert read_frames(path, keys, need=("energy",))[0].energy == -2.0
    with pytest.raises(InputError, match="energy"):  # ... are among the keys found
        read_frames(path, DataConfig(train="", energy_key="no"), need=("energy",))


@pytest.mark.parametrize("text", ["", "3\n\nH 0 0 0\n", "hello\n"])
def test_broken_files(tmp_path, text):
    (tmp_path / "a.xyz").write_text(text)
    with pytest.raises(InputError, match=r"a\.xyz"):
        read_frames(tmp_path / "a.xyz", KEYS)


def test_unknown_element_and_absent_file(tmp_path):
    frames = read_frames(written(tmp_path, lambda a: None), KEYS)
    with pytest.raises(InputError, match="contains O; the potential knows H, C"):
        make_graphs(frames, ["H", "C"], 4.0, torch.float64)
    with pytest.raises(InputError, match="TPCALC_DATA"):
        find_data("no.xyz", tmp_path)


def test_data_folder_of_the_environment(tmp_path, monkeypatch):
    written(tmp_path, lambda a: None)
    monkeypatch.setenv("TPCALC_DATA", str(tmp_path))
    assert find_data("a.xyz", tmp_path / "elsewhere") == (tmp_path / "a.xyz").resolve()


def test_stress_in_nine_or_six_numbers(tmp_path):
    for value in (STRESS.ravel(), full_3x3_to_voigt_6_stress(STRESS)):
        path = written(tmp_path, lambda a, v=value: a.info.update(REF_stress=v), crystal())
        np.testing.assert_array_equal(read_frames(path, KEYS)[0].stress, STRESS)


def test_isolated_atoms_are_split_off():
    isolated, rest = split_isolated(read_frames(tiny.DATA, KEYS))[::-1]
    assert sorted(f.symbols[0] for f in isolated) == ["C", "H", "N", "O"]
    assert len(rest) == 200


def mixed_frames(tmp_path):
    """Two molecules without stress, two crystals, one without forces; arbitrary labels."""
    structures = [ethanol(1), crystal(2), ethanol(3), crystal(4)]
    rng = np.random.default_rng(0)
    for atoms in structures:
        atoms.info["REF_energy"] = float(rng.normal())
        atoms.arrays["REF_forces"] = rng.normal(size=(len(atoms), 3))
        if atoms.pbc.all():
            atoms.info["REF_stress"] = STRESS.ravel()
    frames = []
    for n, atoms in enumerate(structures):
        ase.io.write(tmp_path / f"{n}.xyz", atoms, format="extxyz")
        frames += read_frames(tmp_path / f"{n}.xyz", KEYS)
    frames[2].forces = None
    return structures, frames


def test_batch_is_one_by_one_and_the_calculator(tmp_path):
    structures, frames = mixed_frames(tmp_path)
    potential = random_potential().set_dtype(torch.float64)
    graphs = make_graphs(frames, SPECIES, potential.cutoff, torch.float64)
    together = predict(potential, make_batch(graphs), wants_stress=True)
    calculator = TPCalculator(potential, dtype="float64")
    first = 0
    for n, (atoms, graph) in enumerate(zip(structures, graphs, strict=True)):
        alone = predict(potential, make_batch([graph]), wants_stress=True)
        energy = float(alone.energy[0].detach())
        forces = together.forces[first : first + len(atoms)]
        first += len(atoms)
        torch.testing.assert_close(together.energy[n], alone.energy[0], rtol=1e-13, atol=1e-12)
        torch.testing.assert_close(forces, alone.forces, rtol=0, atol=1e-12)
        other = ase.io.read(tmp_path / f"{n}.xyz")  # the positions the file holds
        other.calc = calculator
        assert other.get_potential_energy() == pytest.approx(energy, rel=1e-13)
        np.testing.assert_allclose(forces, other.get_forces(), atol=1e-11)
        if atoms.pbc.all():
            stress = other.get_stress(voigt=False)
            np.testing.assert_allclose(together.stress[n], stress, atol=1e-12)
        else:
            assert together.stress[n].isnan().all()


@pytest.mark.parametrize("kind", ["mse", "huber"])
def test_loss_is_the_mean_over_what_is_labelled(tmp_path, kind):
    _, frames = mixed_frames(tmp_path)
    potential = random_potential().set_dtype(torch.float64).requires_grad_(True)
    batch = make_batch(make_graphs(frames, SPECIES, potential.cutoff, torch.float64))
    prediction = predict(potential, batch, training=True, wants_stress=True)
    options = {"kind": kind, "energy": 2.0, "forces": 3.0, "stress": 5.0, "huber_delta": 0.5}
    loss = tiny.config(loss=options).loss
    terms = loss_terms(prediction, batch, loss)

    def penalty(error):
        error = np.abs(error)
        if kind == "mse":
            return np.mean(error**2)
        return np.mean(np.where(error < 0.5, 0.5 * error**2, 0.5 * (error - 0.25)))

    energy, forces, stress = (x.detach().numpy() for x in prediction)
    sizes = np.array([len(f.symbols) for f in frames])
    starts = np.cumsum(sizes) - sizes
    rows = np.concatenate([np.arange(starts[n], starts[n] + sizes[n]) for n in (0, 1, 3)])
    labels = np.concatenate([frames[n].forces for n in (0, 1, 3)])
    expected = {
        "energy": penalty((energy - np.array([f.energy for f in frames])) / sizes),
        "forces": penalty(forces[rows] - labels),
        "stress": penalty(stress[[1, 3]] - STRESS),
    }
    assert {k: float(v.detach()) for k, v in terms.items()} == pytest.approx(expected, rel=1e-10)
    total = weighted_sum(terms, loss)
    parts = 2 * expected["energy"] + 3 * expected["forces"] + 5 * expected["stress"]
    assert float(total.detach()) == pytest.approx(parts)
    total.backward()  # molecules have no volume: that must not reach the weights
    assert all(torch.isfinite(p.grad).all() for p in potential.parameters() if p.grad is not None)
