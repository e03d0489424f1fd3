"""The ops that find edges and sum over them, against ASE, numpy and torch."""

import numpy as np
import pytest
import torch
from ase.build import bulk
from ase.neighborlist import neighbor_list
from tpcalc import evaluator, graph
from tpcalc.errors import InputError
from tpcalc.graph import NeighborList, build_graph
from tpcalc.kernels.ops import load_ops

CUTOFF = 4.0


@pytest.fixture(scope="module", autouse=True)
def ops():
    load_ops(progress=False)


def crystal(seed=0):
    """Copper, small enough for atoms that neighbour their own images, away from its places."""
    atoms = bulk("Cu", cubic=True) * (2, 1, 1)
    atoms.positions += np.random.default_rng(seed).normal(scale=0.05, size=atoms.positions.shape)
    return atoms


def test_the_list_is_that_of_ase_while_atoms_move(monkeypatch):
    fast, slow = NeighborList(CUTOFF, skin=0.6), NeighborList(CUTOFF, skin=0.6)
    for seed in range(4):
        atoms = crystal(seed)
        found = fast.update(atoms.positions, atoms.cell.array, atoms.pbc)
        with monkeypatch.context() as patch:
            patch.setattr(graph, "ops_loaded", lambda: False)
            expected = slow.update(atoms.positions, atoms.cell.array, atoms.pbc)
        for a, b in zip(found[:3], expected[:3]):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)
        assert found.num_nodes == len(atoms)
        lengths = neighbor_list("d", atoms, CUTOFF)
        np.testing.assert_allclose(np.sort(found.edge_lengths), np.sort(lengths), rtol=1e-12)
    assert fast.builds < fast.calls


def test_a_list_without_atoms_or_edges():
    neighbors = NeighborList(CUTOFF)
    for n in (0, 1):
        found = neighbors.update(np.zeros((n, 3)), None, False)
        assert found.edge_index.shape == (2, 0)
        assert found.edge_vectors.shape == found.unit_shifts.shape == (0, 3)


def test_atoms_that_come_too_close_are_named():
    neighbors = NeighborList(CUTOFF, skin=4.0)
    positions = np.array([[0.0, 0, 0], [0, 0, 1], [0, 3, 1]])
    neighbors.update(positions, None, False)
    positions[1, 2] = 1e-3
    with pytest.raises(InputError, match="atoms 0 and 1 are 0.001 Å apart"):
        neighbors.update(positions, None, False)
    assert neighbors.builds == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("virials", [False, True])
@pytest.mark.parametrize("shuffled", [False, True])
def test_sums_are_those_of_torch(monkeypatch, dtype, virials, shuffled):
    torch.manual_seed(0)
    atoms = crystal()
    edges = build_graph(atoms.positions, atoms.cell.array, atoms.pbc, CUTOFF)
    order = torch.randperm(edges.num_edges) if shuffled else slice(None)
    index = torch.from_numpy(edges.edge_index)[:, order].contiguous()
    vectors = torch.from_numpy(edges.edge_vectors)[order].to(dtype)
    g = torch.randn(edges.num_edges, 3, dtype=torch.float64).to(dtype)
    found = evaluator.edge_sums(g, vectors, index, len(atoms), virials)
    monkeypatch.setattr(evaluator, "ops_loaded", lambda: False)
    expected = evaluator.edge_sums(g, vectors, index, len(atoms), virials)
    for a, b in zip(found, expected):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    assert abs(found[0].sum(0)).max() < 1e-12  # no edge pushes the whole
    if virials:
        total = -torch.einsum("ea,eb->ab", vectors.double(), g.double())
        torch.testing.assert_close(found[1].sum(0), total, rtol=1e-12, atol=1e-12)


def test_sums_without_edges():
    forces, virials = torch.ops.tpcalc.edge_sums(
        torch.zeros(0, 3), torch.zeros(0, 3), torch.zeros(2, 0, dtype=torch.long), 3, True
    )
    assert forces.shape == (3, 3)
    assert virials.shape == (3, 3, 3)
    assert not forces.any()
    assert not virials.any()


def test_wrong_arguments_are_told():
    op = torch.ops.tpcalc
    g, index = torch.zeros(2, 3), torch.tensor([[0, 0], [1, 7]])
    with pytest.raises(IndexError, match="atom 7 of edge 1 is not one of 3 atoms"):
        op.edge_sums(g, g, index, 3, False)
    index[1, 1] = 2
    with pytest.raises(RuntimeError, match=r"edge vectors must be a contiguous Float .* \[2, 3\]"):
        op.edge_sums(g, g[:1], index, 3, False)
    with pytest.raises(RuntimeError, match="edge_index must be a contiguous int64"):
        op.edge_sums(g, g, index.int(), 3, False)
    x = torch.zeros(3, 3, dtype=torch.float64)
    with pytest.raises(RuntimeError, match="offsets must be a contiguous Double"):
        op.edges_within(x, index, x, torch.zeros(2, 3, dtype=torch.long), 1.0)
    with pytest.raises(IndexError, match="atom 2 of edge 1"):
        op.edges_within(x[:2], index, x[:2], torch.zeros(2, 3, dtype=torch.long), 1.0)
