"""Neighbour lists: ASE's own list is the oracle, pair for pair."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.neighborlist import neighbor_list, primitive_neighbor_list
from tpcalc.errors import InputError
from tpcalc.graph import NeighborList, build_graph, concatenate

CUTOFF = 3.1


def pairs(edge_index, shifts):
    return sorted(map(tuple, np.column_stack([edge_index[0], edge_index[1], shifts]).tolist()))


def ase_pairs(positions, cell, pbc, cutoff):
    i, j, shifts = primitive_neighbor_list("ijS", pbc, cell, positions, cutoff)
    return pairs(np.stack([i, j]), np.where(pbc, shifts, 0))


def check(positions, cell, pbc, cutoff):
    graph = build_graph(positions, cell, pbc, cutoff)
    pbc = np.broadcast_to(pbc, 3)
    assert pairs(graph.edge_index, graph.unit_shifts) == ase_pairs(positions, cell, pbc, cutoff)
    receivers, senders = graph.edge_index
    assert (np.diff(receivers) >= 0).all()
    assert (graph.unit_shifts[:, ~pbc] == 0).all()
    vectors = positions[senders] - positions[receivers] + graph.unit_shifts @ np.asarray(cell)
    np.testing.assert_allclose(graph.edge_vectors, vectors, atol=1e-12)
    assert (graph.edge_lengths < cutoff).all()
    return graph


def random_system(rng):
    """Any periodicity, skewed, thin or tiny cells, atoms in and outside of the cell."""
    pbc = rng.random(3) < 0.6
    lengths = rng.choice([1.2, 2.0, 4.0, 9.0], size=3) * rng.uniform(0.9, 1.1, size=3)
    cell = np.diag(lengths)
    if rng.random() < 0.6:
        cell = cell + np.tril(rng.uniform(-0.6, 0.6, size=(3, 3)) * lengths, -1)
        cell = cell @ np.linalg.qr(rng.normal(size=(3, 3)))[0]
    number = rng.integers(1, 8)
    fractional = rng.random((number, 3))
    kind = rng.integers(3)
    if kind == 1:
        fractional += rng.integers(-3, 4, size=(number, 3))
    if kind == 2:
        fractional[:, rng.integers(3)] = 0.25
    return fractional @ cell, cell, pbc


@pytest.mark.parametrize("block", range(20))
def test_equals_ase_on_generated_cells(block):
    rng = np.random.default_rng(block)
    for _ in range(20):
        positions, cell, pbc = random_system(rng)
        check(positions, cell, pbc, rng.uniform(1.5, 4.5))


@pytest.mark.parametrize("name", ["H2", "CO2", "H2O", "C6H6", "CH4", "C2H2", "CH3CH2OH"])
def test_molecules_without_a_cell(name):
    atoms = molecule(name)
    graph = check(atoms.positions, np.zeros((3, 3)), False, CUTOFF)
    assert graph.num_edges > 0
    assert build_graph(atoms.positions, None, False, CUTOFF).num_edges == graph.num_edges


@pytest.mark.parametrize("element", ["Si", "Cu", "Fe", "Mg"])
def test_crystals(element):
    atoms = bulk(element)
    graph = build_graph(atoms.positions, atoms.cell.array, True, 6.0)
    i, j, shifts = neighbor_list("ijS", atoms, 6.0)
    assert pairs(graph.edge_index, graph.unit_shifts) == pairs(np.stack([i, j]), shifts)


def test_one_atom_has_no_edges_and_no_atom_no_nodes():
    assert build_graph([[1.0, 2.0, 3.0]], None, False, CUTOFF).num_edges == 0
    assert build_graph(np.zeros((0, 3)), None, False, CUTOFF).num_nodes == 0


def test_wire_sees_its_own_images():
    graph = build_graph(
        [[0.3, 0.1, 0.2]], [[0, 0, 1.0], [0, 0, 0], [0, 0, 0]], [True, False, False], 2.5
    )
    assert sorted(graph.unit_shifts[:, 0].tolist()) == [-2, -1, 1, 2]


@pytest.mark.parametrize(
    "cell", [np.zeros((3, 3)), np.ones((3, 3)), np.diag([5.0, 5.0, 0.0]), np.diag([5, 5, np.nan])]
)
def test_flat_cell_is_refused(cell):
    with pytest.raises(InputError, match="spans no volume along its periodic directions"):
        build_graph([[0.0, 0, 0]], cell, True, CUTOFF)


def test_nan_position_names_the_atom():
    positions = np.zeros((3, 3))
    positions[:, 0] = [0, 1, 2]
    positions[1, 2] = np.nan
    with pytest.raises(InputError, match="position of atom 1 is"):
        build_graph(positions, None, False, CUTOFF)
    nl = NeighborList(CUTOFF)
    nl.update(np.nan_to_num(positions), None, False)
    with pytest.raises(InputError, match="position of atom 1 is"):
        nl.update(positions, None, False)


def test_overlapping_atoms_name_the_pair():
    with pytest.raises(InputError, match="atoms 0 and 2 are 0.001 Å apart"):
        build_graph([[0, 0, 0], [1.5, 0, 0], [0, 0.001, 0]], None, False, CUTOFF)
    with pytest.raises(InputError, match="atoms 0 and 1 are"):
        build_graph([[0, 0, 0], [4.0, 0, 0]], np.eye(3) * 4, True, CUTOFF)


@pytest.mark.parametrize("cutoff", [0.0, -1.0, float("nan")])
def test_bad_cutoff(cutoff):
    with pytest.raises(InputError, match="cutoff is"):
        build_graph([[0.0, 0, 0]], None, False, cutoff)


def test_skin_changes_nothing_but_the_number_of_searches():
    rng = np.random.default_rng(7)
    atoms = bulk("Cu", cubic=True) * (2, 2, 2)
    nl = NeighborList(4.0, skin=0.6)
    for step in range(60):
        atoms.positions += rng.normal(scale=0.02, size=(len(atoms), 3))
        if step == 40:
            atoms.set_cell(atoms.cell * 1.01, scale_atoms=True)
        graph = nl.update(atoms.positions, atoms.cell.array, atoms.pbc, atoms.numbers)
        fresh = build_graph(atoms.positions, atoms.cell.array, atoms.pbc, 4.0)
        assert pairs(graph.edge_index, graph.unit_shifts) == pairs(
            fresh.edge_index, fresh.unit_shifts
        )
        np.testing.assert_allclose(
            np.sort(graph.edge_lengths), np.sort(fresh.edge_lengths), atol=1e-12
        )
    assert nl.calls == 60
    assert 2 <= nl.builds < 40


def test_rebuild_on_new_cell_pbc_numbers_and_atoms():
    atoms = Atoms("H2", positions=[[0, 0, 0], [0, 0, 1.0]], cell=[5, 5, 5], pbc=True)

    def update(nl, a):
        nl.update(a.positions, a.cell.array, a.pbc, a.numbers)
        return nl.builds

    nl = NeighborList(3.0)
    assert update(nl, atoms) == 1
    assert update(nl, atoms) == 1
    atoms.cell[0, 0] = 5.1
    assert update(nl, atoms) == 2
    atoms.pbc = False
    assert update(nl, atoms) == 3
    atoms.numbers[0] = 8
    assert update(nl, atoms) == 4
    assert update(nl, atoms[:1]) == 5
    atoms.positions[0, 0] += 10.0
    assert update(nl, atoms) == 6


def test_negative_skin_is_refused():
    with pytest.raises(InputError, match="skin is -1"):
        NeighborList(3.0, skin=-1)


def test_concatenate_keeps_structures_apart():
    water, methane = molecule("H2O"), molecule("CH4")
    graphs = [build_graph(a.positions, None, False, CUTOFF) for a in (water, methane)]
    joined, structure = concatenate(graphs)
    assert joined.num_nodes == 8
    assert structure.tolist() == [0] * 3 + [1] * 5
    assert (structure[joined.edge_index[0]] == structure[joined.edge_index[1]]).all()
    assert joined.num_edges == sum(g.num_edges for g in graphs)
    assert concatenate([])[0].num_nodes == 0
