"""One potential on real structures: positions in, energies, forces and virials out.

What the ASE calculator, the benchmarks and batch evaluation share; it knows no ASE.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from ase.data import atomic_numbers, chemical_symbols

from tpcalc.errors import CheckFailed, InputError
from tpcalc.graph import Graph, NeighborList, build_graph, concatenate
from tpcalc.kernels.ops import ops_loaded
from tpcalc.potential import Potential, energy_and_edge_gradient, forces_from_edges


class Evaluation(NamedTuple):
    """Results of one call, float64, on the CPU."""

    energies: np.ndarray  # [N] eV
    forces: np.ndarray  # [N, 3] eV/Å
    virials: np.ndarray | None  # [N, 3, 3] eV; of each edge half to either atom; LAMMPS' sign
    num_edges: int


class Evaluator:
    """A potential, its neighbour list, and the map from atomic numbers to species.

    Args:
        potential: on its device and in its dtype; not copied.
        skin: Å, see `NeighborList`.
        run: what to call in place of `potential` (a scripted copy of it), same signature.
    """

    def __init__(self, potential: Potential, skin: float = 0.5, run: torch.nn.Module | None = None):
        self.potential = potential
        self.run = run if run is not None else potential
        self.neighbors = NeighborList(potential.cutoff, skin)
        self._set_index()

    def _set_index(self) -> None:
        self._index = np.full(len(chemical_symbols), -1, dtype=np.int64)
        for index, symbol in enumerate(self.potential.species):
            self._index[atomic_numbers[symbol]] = index
        self._species_key: bytes | None = None

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.potential.shifts.device

    def species(self, numbers: np.ndarray) -> torch.Tensor:
        """[N] index of each atom into `potential.species`.

        Raises:
            InputError: an element the potential does not know, naming it and the known ones.
        """
        numbers = np.asarray(numbers)
        key = numbers.tobytes()
        if key != self._species_key:
            index = self._index[numbers]
            if (index < 0).any():
                atom = int(np.flatnonzero(index < 0)[0])
                raise InputError(
                    f"element {chemical_symbols[numbers[atom]]!r} (atom {atom}) is unknown to "
                    f"this potential; it knows {', '.join(self.potential.species)}"
                )
            self._species_key, self._species = key, torch.from_numpy(index).to(self.device)
        return self._species

    def tensors(self, graph: Graph) -> tuple[torch.Tensor, torch.Tensor]:
        """edge_index [2, E] and edge_vectors [E, 3] on the device, in the model's dtype."""
        vectors = torch.from_numpy(np.ascontiguousarray(graph.edge_vectors))
        return (
            torch.from_numpy(np.ascontiguousarray(graph.edge_index)).to(self.device),
            vectors.to(self.device, self.potential.dtype),
        )

    def __call__(self, positions, cell, pbc, numbers, virials: bool = True) -> Evaluation:
        """One structure; without `virials` these are None.

        Raises:
            InputError: see `build_graph` and `species`.
            CheckFailed: energy or forces are not finite, naming the atom.
        """
        species = self.species(numbers)
        graph = self.neighbors.update(positions, cell, pbc, numbers)
        return self.evaluate_graph(graph, species, virials)

    def evaluate_graph(
        self, graph: Graph, species: torch.Tensor, virials: bool = True
    ) -> Evaluation:
        """The same from edges."""
        edge_index, vectors = self.tensors(graph)
        with torch.enable_grad():
            energies, g = energy_and_edge_gradient(
                self.run, species, edge_index, vectors, graph.num_nodes
            )
        forces, each = edge_sums(g, vectors, edge_index, graph.num_nodes, virials)
        result = Evaluation(
            energies.detach().cpu().numpy(),
            forces.cpu().numpy(),
            each.cpu().numpy() if virials else None,
            graph.num_edges,
        )
        _check_finite(result)
        return result

    def batch(self, structures: list[tuple], max_edges: int = 200_000) -> list[Evaluation]:
        """Many structures (positions, cell, pbc, numbers), as many per call as fit `max_edges`."""
        results: list[Evaluation] = []
        graphs: list[Graph] = []
        species: list[torch.Tensor] = []
        for positions, cell, pbc, numbers in structures:
            species.append(self.species(numbers))
            graphs.append(build_graph(positions, cell, pbc, self.potential.cutoff))
            if sum(g.num_edges for g in graphs) >= max_edges:
                results += self._together(graphs, species)
                graphs, species = [], []
        return results + self._together(graphs, species)

    def _together(self, graphs: list[Graph], species: list[torch.Tensor]) -> list[Evaluation]:
        if not graphs:
            return []
        joined, _ = concatenate(graphs)
        result = self.evaluate_graph(joined, torch.cat(species))
        ends = np.cumsum([g.num_nodes for g in graphs])[:-1]
        parts = [np.split(x, ends) for x in result[:3]]
        return [Evaluation(e, f, v, g.num_edges) for e, f, v, g in zip(*parts, graphs)]


def edge_sums(
    g: torch.Tensor, vectors: torch.Tensor, edge_index: torch.Tensor, num_nodes: int, virials: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Forces [N, 3] and, where wanted, virials [N, 3, 3] (else none), float64, of dE/d(vectors).

    By a compiled op where the ops are loaded, else by torch.
    """
    if ops_loaded() and not g.is_cuda:
        return torch.ops.tpcalc.edge_sums(g, vectors, edge_index, num_nodes, virials)
    g = g.double()
    forces = forces_from_edges(g, edge_index, num_nodes)
    if not virials:
        return forces, forces.new_zeros(0, 3, 3)
    half = vectors.double().t().unsqueeze(1) * (-0.5 * g).t().unsqueeze(0)  # [3, 3, E]
    half = half.reshape(9, -1)  # edges last: twice as fast as [E, 3, 3]
    each = torch.zeros(9, num_nodes, dtype=torch.float64, device=g.device)
    for atoms in (edge_index[0], edge_index[1]):
        each.scatter_add_(1, atoms.expand(9, -1), half)
    return forces, each.t().reshape(num_nodes, 3, 3)


def _check_finite(result: Evaluation) -> None:
    # one sum each is enough: NaN and inf survive sums
    if np.isfinite(result.energies.sum()) and np.isfinite(result.forces.sum()):
        return
    finite = np.isfinite(result.energies) & np.isfinite(result.forces).all(axis=1)
    atom = int(np.flatnonzero(~finite)[0]) if not finite.all() else -1
    raise CheckFailed(
        f"energy or force of atom {atom} is not finite; the structure is far outside of what the "
        "potential was trained on, or dtype float32 overflows (try float64)"
    )
