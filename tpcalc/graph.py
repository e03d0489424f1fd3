"""Atoms to edges: neighbour lists, periodic shifts and the Verlet skin.

Row 0 of `edge_index` is the receiver i, row 1 the sender j, edges are sorted by receiver, and
`edge_vectors` = r_j - r_i + unit_shifts @ cell, in Å and float64. No cell enters a model.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from matscipy.neighbours import neighbour_list

from tpcalc.errors import InputError
from tpcalc.kernels.ops import ops_loaded

# Å; two atoms closer than this are one atom given twice, no chemistry happens here
MIN_DISTANCE = 0.01


class Graph(NamedTuple):
    """Edges of one structure, or of several one after the other (`concatenate`)."""

    edge_index: np.ndarray  # [2, E] int64, receivers | senders
    edge_vectors: np.ndarray  # [E, 3] float64, Å
    unit_shifts: np.ndarray  # [E, 3] int64, zero along directions that are not periodic
    num_nodes: int

    @property
    def num_edges(self) -> int:
        """E."""
        return self.edge_index.shape[1]

    @property
    def edge_lengths(self) -> np.ndarray:
        """[E] Å."""
        return np.sqrt(np.einsum("ex,ex->e", self.edge_vectors, self.edge_vectors))


def build_graph(positions, cell, pbc, cutoff: float) -> Graph:
    """All pairs closer than `cutoff` (Å), own periodic images included.

    Args:
        positions: [N, 3] Å, wrapped or not.
        cell: [3, 3] rows are the cell vectors, Å, or None; rows of directions that are not
            periodic are ignored and may be zero.
        pbc: one bool or three.
        cutoff: Å.

    Raises:
        InputError: positions that are not finite (names the atom), a cell that spans no volume
            along its periodic directions, two atoms closer than MIN_DISTANCE (names the pair).
    """
    positions, cell, pbc = _checked(positions, cell, pbc)
    if not (np.isfinite(cutoff) and cutoff > 0):
        raise InputError(f"cutoff is {cutoff} Å; it must be a positive number")
    if len(positions) == 0:
        return _graph(np.zeros((2, 0)), np.zeros((0, 3)), np.zeros((0, 3)), 0)
    origin, box = _search_box(positions, cell, pbc, cutoff)
    receivers, senders, shifts = neighbour_list(
        "ijS", positions=positions - origin, cell=box, pbc=pbc, cutoff=float(cutoff)
    )
    shifts = np.where(pbc, shifts, 0).astype(np.int64)
    order = np.argsort(receivers, kind="stable")
    edge_index = np.stack([receivers[order], senders[order]]).astype(np.int64)
    shifts = shifts[order]
    vectors = positions[edge_index[1]] - positions[edge_index[0]] + shifts @ cell
    graph = Graph(edge_index, vectors, shifts, len(positions))
    return _within(graph, cutoff)


def concatenate(graphs: list[Graph]) -> tuple[Graph, np.ndarray]:
    """One graph of many without edges between them, and the structure of each node [N] int64."""
    counts = [graph.num_nodes for graph in graphs]
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    joined = _graph(
        np.concatenate([g.edge_index + o for g, o in zip(graphs, offsets)], axis=1)
        if graphs
        else np.zeros((2, 0)),
        np.concatenate([g.edge_vectors for g in graphs]) if graphs else np.zeros((0, 3)),
        np.concatenate([g.unit_shifts for g in graphs]) if graphs else np.zeros((0, 3)),
        int(offsets[-1]),
    )
    return joined, np.repeat(np.arange(len(graphs)), counts)


class NeighborList:
    """A list built to cutoff + skin and reused until an atom has moved more than skin/2.

    A new cell, periodicity, number of atoms or set of atomic numbers also rebuilds it. Every
    call returns exactly the pairs within the cutoff, whatever the skin; `builds` and `calls`
    count how often the search ran.
    """

    def __init__(self, cutoff: float, skin: float = 0.5):
        if not (np.isfinite(skin) and skin >= 0):
            raise InputError(f"skin is {skin} Å; it must be zero or a positive number")
        self.cutoff = float(cutoff)
        self.skin = float(skin)
        self.builds = 0
        self.calls = 0
        self._key: tuple | None = None

    def update(self, positions, cell, pbc, numbers=None) -> Graph:
        """The graph of these atoms; arguments and errors as `build_graph`."""
        self.calls += 1
        positions = np.asarray(positions, dtype=np.float64)
        key = tuple(np.asarray(x).tobytes() for x in (cell, pbc, numbers) if x is not None)
        if self._must_rebuild(positions, key):
            self._key = None  # a failed search leaves no list behind
            self._candidates = build_graph(positions, cell, pbc, self.cutoff + self.skin)
            self._offsets = self._candidates.unit_shifts @ _cell(cell)
            self._positions = positions.copy()
            self._key = key
            self.builds += 1
        if ops_loaded():
            graph = self._by_op(positions)
            if graph is not None:
                return graph
        receivers, senders = self._candidates.edge_index
        vectors = positions.take(senders, axis=0) - positions.take(receivers, axis=0)
        vectors += self._offsets
        return _within(self._candidates._replace(edge_vectors=vectors), self.cutoff)

    def _by_op(self, positions: np.ndarray) -> Graph | None:
        """The same in one pass; None where atoms lie on top of each other."""
        index, _, shifts, num_nodes = self._candidates
        arrays = [np.ascontiguousarray(x) for x in (positions, index, self._offsets, shifts)]
        *kept, smallest = torch.ops.tpcalc.edges_within(
            *(torch.from_numpy(x) for x in arrays), self.cutoff
        )
        if smallest < MIN_DISTANCE**2:
            return None
        return Graph(*(tensor.numpy() for tensor in kept), num_nodes)

    @property
    def nbytes(self) -> int:
        """Bytes held between steps."""
        if self._key is None:
            return 0
        held = [*self._candidates[:3], self._offsets, self._positions]
        return sum(array.nbytes for array in held)

    def _must_rebuild(self, positions: np.ndarray, key: tuple) -> bool:
        if self._key is None or key != self._key or positions.shape != self._positions.shape:
            return True
        if len(positions) == 0:
            return False
        moved = positions - self._positions
        largest = np.einsum("nx,nx->n", moved, moved).max()
        return not largest <= (0.5 * self.skin) ** 2  # NaN rebuilds, and is named there


def _within(graph: Graph, cutoff: float) -> Graph:
    """The edges shorter than `cutoff`; refuses atoms on top of each other."""
    squared = np.einsum("ex,ex->e", graph.edge_vectors, graph.edge_vectors)
    if squared.size and squared.min() < MIN_DISTANCE**2:
        edge = int(squared.argmin())
        i, j = sorted(graph.edge_index[:, edge].tolist())
        raise InputError(
            f"atoms {i} and {j} are {squared[edge] ** 0.5:.2g} Å apart (limit {MIN_DISTANCE} Å, "
            "periodic images included); remove one of them or enlarge the cell"
        )
    keep = np.flatnonzero(squared < cutoff**2)  # numbers are taken twice as fast as by a mask
    if len(keep) == len(squared):
        return graph
    return Graph(
        graph.edge_index.take(keep, axis=1),
        graph.edge_vectors.take(keep, axis=0),
        graph.unit_shifts.take(keep, axis=0),
        graph.num_nodes,
    )


def _graph(edge_index, edge_vectors, unit_shifts, num_nodes: int) -> Graph:
    return Graph(
        np.asarray(edge_index, dtype=np.int64),
        np.asarray(edge_vectors, dtype=np.float64),
        np.asarray(unit_shifts, dtype=np.int64),
        num_nodes,
    )


def _cell(cell) -> np.ndarray:
    return np.zeros((3, 3)) if cell is None else np.asarray(cell, dtype=np.float64)


def _checked(positions, cell, pbc) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions [N, 3], cell [3, 3] with zero rows where not periodic, pbc [3]."""
    positions = np.asarray(positions, dtype=np.float64)
    if positions.ndim != 2 or positions.shape[1] != 3:
        raise InputError(f"positions have shape {positions.shape}; expected [N, 3]")
    finite = np.isfinite(positions).all(axis=1)
    if not finite.all():
        atom = int(np.flatnonzero(~finite)[0])
        raise InputError(f"the position of atom {atom} is {positions[atom].tolist()}; not finite")
    pbc = np.broadcast_to(np.asarray(pbc, dtype=bool), 3)
    cell = _cell(cell)
    if cell.shape != (3, 3):
        raise InputError(f"cell has shape {cell.shape}; expected [3, 3], rows are the vectors")
    cell = np.where(pbc[:, None], cell, 0.0)
    lattice = cell[pbc]
    lengths = np.sqrt((lattice**2).sum(axis=1))
    # volume of the periodic directions relative to a rectangular cell of the same lengths
    ok = np.isfinite(lattice).all() and (lengths > 0).all()
    if ok and len(lattice):
        unit = lattice / lengths[:, None]
        ok = np.linalg.det(unit @ unit.T) > 1e-12
    if not ok:
        raise InputError(
            f"the cell {cell.tolist()} spans no volume along its periodic directions "
            f"(pbc {pbc.tolist()}); set a cell, or pbc=False for a molecule"
        )
    return positions, cell, pbc


def _search_box(positions, cell, pbc, cutoff) -> tuple[np.ndarray, np.ndarray]:
    """Origin and an invertible box: free directions get orthogonal vectors around all atoms."""
    lattice = cell[pbc]
    # the rows of vh past the rank of the lattice span its orthogonal complement
    _, _, vh = np.linalg.svd(lattice) if len(lattice) else (None, None, np.eye(3))
    normals = vh[len(lattice) :]
    along = positions @ normals.T  # [N, free directions]
    low, high = along.min(axis=0) - cutoff, along.max(axis=0) + cutoff
    box = cell.copy()
    box[~pbc] = normals * (high - low)[:, None]
    return low @ normals, box
