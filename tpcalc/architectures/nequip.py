"""NequIP: gated convolutions over neighbours. Source: Batzner et al., Nat. Commun. 13, 2453."""

from __future__ import annotations

import math

import torch
from e3nn.o3 import Irrep, Irreps

from tpcalc.halo import register_halo_exchange
from tpcalc.nn.gate import Gate
from tpcalc.nn.linear import Linear, SpeciesLinear
from tpcalc.nn.radial import BesselBasis, RadialMLP
from tpcalc.nn.readout import ScalarReadout
from tpcalc.tensor_products import convolution
from tpcalc.tensor_products.base import Convolution
from tpcalc.tensor_products.paths import as_irreps


class InteractionLayer(torch.nn.Module):
    """linear, exchange of ghosts, convolution, linear, plus self-connection, gate.

    Node-wise work stands before the exchange, so that ghosts cost communication only.
    """

    def __init__(self, conv: Convolution, gate: Gate, num_species: int, radial: RadialMLP,
                 avg_num_neighbors: float, exchange: bool):  # fmt: skip
        super().__init__()
        self.linear_up = Linear(conv.irreps_node, conv.irreps_node)
        self.conv = conv
        self.radial = radial
        self.linear_down = Linear(conv.irreps_out, gate.irreps_in)
        sc_irreps = [(mul, ir) for mul, ir in gate.irreps_in if ir in conv.irreps_node]
        self.self_connection = SpeciesLinear(conv.irreps_node, Irreps(sc_irreps), num_species)
        self.pad_sc = _padding(Irreps(sc_irreps), gate.irreps_in)
        self.gate = gate
        self.norm = 1.0 / math.sqrt(avg_num_neighbors)
        self.exchange = exchange

    def self_part(self, x: torch.Tensor, one_hot: torch.Tensor) -> torch.Tensor:
        """What an atom contributes without neighbours, before the gate: [n, gate.irreps_in]."""
        sc = self.self_connection(x, one_hot)
        if len(self.pad_sc) == 1:
            return sc
        parts: list[torch.Tensor] = []
        start = 0
        for present, width in self.pad_sc:
            if present > 0:
                parts.append(sc[:, start : start + width])
                start += width
            else:
                parts.append(torch.zeros(x.shape[0], width, dtype=x.dtype, device=x.device))
        return torch.cat(parts, 1)

    def forward(self, x: torch.Tensor, one_hot: torch.Tensor, basis: torch.Tensor,
                edge_feats: torch.Tensor, senders: torch.Tensor, receivers: torch.Tensor,
                n_local: int) -> torch.Tensor:  # fmt: skip
        sc = self.self_part(x[:n_local], one_hot)
        up = self.linear_up(x)
        if self.exchange:
            up = torch.ops.tpcalc.halo_exchange(up)  # [n_local, *] -> [n_all, *]
        weights = self.radial(edge_feats)
        messages = self.conv(up, basis, weights, senders, receivers, n_local) * self.norm
        return self.gate(self.linear_down(messages) + sc)


class NequIP(torch.nn.Module):
    """Node energies from species and edges; in scaled units (see `Potential`).

    Args:
        num_species: elements the model knows.
        cutoff: Å.
        hidden_irreps: node features between layers, e.g. "32x0e+32x1o+32x2e".
        lmax: largest degree of the spherical harmonics of an edge.
        num_layers: convolutions.
        num_basis, radial_hidden, cutoff_p: radial functions.
        avg_num_neighbors: sums over neighbours are divided by its square root.
        readout_hidden: width of the readout's hidden layer, 0 for a linear readout.
        tensor_product_options: passed to every convolution (e.g. {"terms": 2}).
    """

    def __init__(self, num_species: int, cutoff: float, variant: str,
                 hidden_irreps: str = "32x0e+32x1o+32x2e", lmax: int = 2, num_layers: int = 3,
                 num_basis: int = 8, radial_hidden: tuple[int, ...] = (64, 64),
                 cutoff_p: float = 6.0, avg_num_neighbors: float = 10.0,
                 readout_hidden: int = 16,
                 tensor_product_options: dict | None = None):  # fmt: skip
        super().__init__()
        register_halo_exchange()
        self.num_species = num_species
        self.options = dict(tensor_product_options or {})
        hidden = as_irreps(hidden_irreps).sort().irreps.simplify()
        scalars = hidden.count(Irrep("0e"))
        self.irreps_edge = Irreps.spherical_harmonics(lmax)
        self.embedding = torch.nn.Parameter(torch.randn(num_species, scalars, dtype=torch.float64))
        self.radial_basis = BesselBasis(cutoff, num_basis, cutoff_p)
        layers: list[InteractionLayer] = []
        current = Irreps([(scalars, Irrep("0e"))])
        for n in range(num_layers):
            wanted = hidden if n < num_layers - 1 else Irreps([(scalars, Irrep("0e"))])
            conv = self._convolution(variant, current, wanted + Irreps("0e"))  # 0e for the gates
            gate = Gate(Irreps([(mul, ir) for mul, ir in wanted if ir in conv.irreps_out]))
            radial = RadialMLP(num_basis, list(radial_hidden), conv.weight_numel)
            layers.append(
                InteractionLayer(conv, gate, num_species, radial, avg_num_neighbors, n > 0)
            )
            current = gate.irreps_out
        self.layers = torch.nn.ModuleList(layers)
        self.readout = ScalarReadout(scalars, readout_hidden)
        self._collect_bases()

    def _convolution(self, variant: str, irreps_node: Irreps, irreps_out: Irreps) -> Convolution:
        return convolution(variant, irreps_node, self.irreps_edge, irreps_out, **self.options)

    @torch.jit.unused
    def swap(self, variant: str) -> None:
        """Replace the algorithm of every convolution; no weight changes."""
        for layer in self.layers:
            old = layer.conv
            new = self._convolution(variant, old.irreps_node, layer.gate.irreps_in)
            layer.conv = new.to(self.embedding.device, self.embedding.dtype)
        self._collect_bases()

    @torch.jit.unused
    def _collect_bases(self) -> None:
        """One edge basis per distinct `spec`, shared by the layers that ask for it."""
        specs: list = []
        bases: list[torch.nn.Module] = []
        self.basis_of_layer: list[int] = []
        for layer in self.layers:
            basis = layer.conv.edge_basis
            if basis.spec not in specs:
                specs.append(basis.spec)
                bases.append(basis)
            self.basis_of_layer.append(specs.index(basis.spec))
            del layer.conv.edge_basis
        for layer, index in zip(self.layers, self.basis_of_layer):
            layer.conv.edge_basis = bases[index]
        self.bases = torch.nn.ModuleList(bases).to(self.embedding.device, self.embedding.dtype)

    def _isolated(self, dtype: torch.dtype) -> torch.Tensor:
        """Energies of the species without neighbours: [num_species]; constant when frozen."""
        one_hot = torch.eye(self.num_species, dtype=dtype, device=self.embedding.device)
        x = self.embedding
        for layer in self.layers:
            x = layer.gate(layer.self_part(x, one_hot))
        return self.readout(x)

    def forward(self, species: torch.Tensor, edge_index: torch.Tensor,
                edge_vectors: torch.Tensor, n_local: int) -> torch.Tensor:  # fmt: skip
        receivers, senders = edge_index[0], edge_index[1]
        lengths = (edge_vectors * edge_vectors).sum(1).sqrt()  # [E]
        edge_feats = self.radial_basis(lengths)  # [E, num_basis]
        bases: list[torch.Tensor] = []
        for basis in self.bases:
            bases.append(basis(edge_vectors))
        local = species[:n_local]
        one_hot = torch.nn.functional.one_hot(local, self.num_species).to(edge_vectors.dtype)
        x = self.embedding.index_select(0, species)  # layer 0 knows its ghosts: no exchange
        for n, layer in enumerate(self.layers):
            edge_basis = bases[self.basis_of_layer[n]]
            x = layer(x, one_hot, edge_basis, edge_feats, senders, receivers, n_local)
        isolated = self._isolated(edge_vectors.dtype)
        return self.readout(x) - isolated.index_select(0, local)


def _padding(present: Irreps, wanted: Irreps) -> list[tuple[int, int]]:
    """(1 where the block exists, else 0; its width) for each block of `wanted`."""
    if present == wanted:
        return [(1, wanted.dim)]
    return [(int(ir in present), mul * ir.dim) for mul, ir in wanted]
