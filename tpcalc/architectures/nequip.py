"""NequIP: gated convolutions over neighbours. Source: Batzner et al., Nat. Commun. 13, 2453."""

from __future__ import annotations

import math

import torch
from e3nn.o3 import Irrep, Irreps

from tpcalc.architectures.edge_bases import share_edge_bases
from tpcalc.architectures.isolated import IsolatedAtoms
from tpcalc.architectures.neighbor_sum import NeighborSum
from tpcalc.errors import InputError, check_name
from tpcalc.halo import register_halo_exchange
from tpcalc.kept_species import keep_rows
from tpcalc.kernels.ops import use_ops
from tpcalc.nn.cutoff import XplorCutoff
from tpcalc.nn.gate import Gate
from tpcalc.nn.linear import CommonLinear, Linear, NoConnection, SpeciesLinear
from tpcalc.nn.node_product import NodeProduct, operand_irreps
from tpcalc.nn.norm import RmsNorm
from tpcalc.nn.radial import BesselBasis, RadialMLP
from tpcalc.nn.readout import ScalarReadout
from tpcalc.nn.zbl import UniversalZbl
from tpcalc.tensor_products import convolution, functions, interaction_variant, tensor_product
from tpcalc.tensor_products.base import Convolution, TensorProduct
from tpcalc.tensor_products.paths import as_irreps


class InteractionLayer(NeighborSum):
    """node product (if any), linear, exchange of ghosts, convolution, linear, plus
    self-connection, gate.

    Node-wise work stands before the exchange, so that ghosts cost communication only.
    """

    def __init__(self, conv: Convolution, gate: Gate, num_species: int, radial: RadialMLP,
                 avg_num_neighbors: float, exchange: bool, self_connection: str = "species",
                 normalization: str = "none",
                 interaction: torch.nn.Module | None = None):  # fmt: skip
        super().__init__(conv, radial)
        self.interaction = interaction or torch.nn.Identity()
        self.linear_up = Linear(conv.irreps_node, conv.irreps_node)
        self.linear_down = Linear(conv.irreps_out, gate.irreps_in)
        sc_irreps = [(mul, ir) for mul, ir in gate.irreps_in if ir in conv.irreps_node]
        if self_connection == "species":
            self.self_connection = SpeciesLinear(conv.irreps_node, Irreps(sc_irreps), num_species)
        elif self_connection == "none":
            sc_irreps = []
            self.self_connection = NoConnection()
        else:
            self.self_connection = CommonLinear(conv.irreps_node, Irreps(sc_irreps))
        self.pad_sc = _padding(Irreps(sc_irreps), gate.irreps_in)
        self.scale_features = (
            RmsNorm(gate.irreps_in) if normalization == "rms" else torch.nn.Identity()
        )
        self.gate = gate
        self.norm = 1.0 / math.sqrt(avg_num_neighbors)
        self.exchange = exchange

    def padded(self, sc: torch.Tensor) -> torch.Tensor:
        """The self-connection with zeros where it has no block: [n, gate.irreps_in]."""
        if len(self.pad_sc) == 1 and self.pad_sc[0][0] == 1:
            return sc
        parts: list[torch.Tensor] = []
        start = 0
        for present, width in self.pad_sc:
            if present > 0:
                parts.append(sc[:, start : start + width])
                start += width
            else:
                parts.append(torch.zeros(sc.shape[0], width, dtype=sc.dtype, device=sc.device))
        return torch.cat(parts, 1)

    def forward(self, x: torch.Tensor, species: torch.Tensor, one_hot: torch.Tensor,
                basis: torch.Tensor, edge_feats: torch.Tensor, senders: torch.Tensor,
                receivers: torch.Tensor) -> torch.Tensor:  # fmt: skip
        """`species` and `one_hot` of local atoms."""
        n_local = species.shape[0]
        x = self.interaction(x)
        sc = self.padded(self.self_connection(x[:n_local], species, one_hot))
        up = self.linear_up(x)
        if self.exchange:
            up = torch.ops.tpcalc.halo_exchange(up)  # [n_local, *] -> [n_all, *]
        messages = self.messages(up, basis, edge_feats, None, senders, receivers, n_local)
        return self.gate(self.scale_features(self.linear_down(messages, self.norm, sc)))

    def isolated(self, x: torch.Tensor) -> torch.Tensor:
        """The layer for one atom of each species without neighbours: [num_species, *]."""
        x = self.interaction(x)
        return self.gate(self.scale_features(self.padded(self.self_connection.each_species(x))))


class NequIP(IsolatedAtoms):
    """Node energies from species and edges; in scaled units (see `Potential`).

    Args:
        num_species: elements the model knows.
        cutoff: Å.
        hidden_irreps: node features between layers, e.g. "32x0e+32x1o+32x2e" (the last layer
            keeps its even scalars), or a list: what each layer makes.
        lmax: largest degree of the spherical harmonics of an edge.
        num_layers: convolutions.
        num_basis, radial_hidden, cutoff_p: radial functions.
        avg_num_neighbors: sums over neighbours are divided by its square root.
        readout_hidden: width of the readout's hidden layer, 0 for a linear readout.
        embedding_channels: width of the species embedding; None takes the scalars of the first
            layer's features.
        self_connection: "species" (a matrix for each), "common" (one for all), "none", or a list:
            the kind of each layer.
        normalization: "none", or "rms" (`RmsNorm`) before every gate.
        symmetry: "O3", or "SO3": parities are ignored, write all irreps even (SevenNet).
        cutoff_function: "polynomial" (with cutoff_p), or "xplor" (from cutoff_onset, Å).
        tensor_product_options: passed to every convolution (e.g. {"terms": 2}).
        pair_repulsion: "none" or "zbl" (`UniversalZbl`; needs `species`, and `scale` to be in eV).
        pair_cutoff_p: power of its cutoff.
        interaction: a function ("cg", "shared", "gaunt", "gaunt:2", ...): features are multiplied
            with themselves, node by node (`NodeProduct`), between the convolutions; "none".
        interaction_channels: channels of that product; None takes the smallest multiplicity.
    """

    __constants__ = ["repulsive", "as_op"]  # TorchScript drops branches not taken

    def __init__(self, num_species: int, cutoff: float, variant: str,
                 hidden_irreps: str | list[str] = "32x0e+32x1o+32x2e",
                 lmax: int = 2, num_layers: int = 3,
                 num_basis: int = 8, radial_hidden: tuple[int, ...] = (64, 64),
                 cutoff_p: float = 6.0, avg_num_neighbors: float = 10.0,
                 readout_hidden: int = 16, tensor_product_options: dict | None = None,
                 embedding_channels: int | None = None,
                 self_connection: str | list[str] = "species",
                 normalization: str = "none", symmetry: str = "O3",
                 cutoff_function: str = "polynomial", cutoff_onset: float = 0.0,
                 interaction: str = "none", interaction_channels: int | None = None,
                 pair_repulsion: str = "none", pair_cutoff_p: float = 6.0,
                 species: list[str] | None = None,
                 scale: float | list[float] = 1.0):  # fmt: skip
        super().__init__()
        register_halo_exchange()
        self.num_species = num_species
        connections = _connections(self_connection, num_layers)
        check_name("pair_repulsion", pair_repulsion, ("none", "zbl"))
        self.repulsive = pair_repulsion == "zbl"
        self.pair_repulsion = (
            UniversalZbl(species or [], cutoff, pair_cutoff_p, scale)
            if self.repulsive
            else torch.nn.Identity()
        )
        self.options = dict(tensor_product_options or {})
        _check_kinds(normalization, symmetry, cutoff_function)
        self.interaction, self.interaction_channels = interaction, interaction_channels
        check_name("interaction", interaction.split(":")[0], ("none", *functions()))
        if interaction_channels is not None and interaction_channels < 1:
            raise InputError(f"interaction_channels {interaction_channels}; at least 1 is needed")
        wanted = _layer_irreps(hidden_irreps, num_layers)
        self.irreps_edge = Irreps.spherical_harmonics(lmax, -1 if symmetry == "O3" else 1)
        channels = embedding_channels or wanted[0].count(Irrep("0e"))
        self.embedding = torch.nn.Parameter(torch.randn(num_species, channels, dtype=torch.float64))
        envelope = XplorCutoff(cutoff, cutoff_onset) if cutoff_function == "xplor" else None
        self.radial_basis = BesselBasis(cutoff, num_basis, cutoff_p, envelope=envelope)
        layers: list[InteractionLayer] = []
        current = Irreps([(channels, Irrep("0e"))])
        for n in range(num_layers):
            conv = self._convolution(variant, current, wanted[n] + Irreps("0e"))  # 0e: gates
            gate = Gate(Irreps([(mul, ir) for mul, ir in wanted[n] if ir in conv.irreps_out]))
            radial = RadialMLP(num_basis, list(radial_hidden), conv.weight_numel)
            layers.append(
                InteractionLayer(conv, gate, num_species, radial, avg_num_neighbors, n > 0,
                                 connections[n], normalization,
                                 self._node_product(variant, current) if n > 0 else None)
            )  # fmt: skip
            current = gate.irreps_out
        self.layers = torch.nn.ModuleList(layers)
        self.readout = ScalarReadout(current.count(Irrep("0e")), readout_hidden)
        self._collect_bases()

    def _convolution(self, variant: str, irreps_node: Irreps, irreps_out: Irreps) -> Convolution:
        return convolution(variant, irreps_node, self.irreps_edge, irreps_out, **self.options)

    def _node_product(self, variant: str, irreps: Irreps) -> NodeProduct | None:
        """The product between two layers; layer 0 sees the scalars of the species alone."""
        if self.interaction == "none":
            return None
        return NodeProduct(irreps, self._interaction_product(variant, irreps))

    def _interaction_product(self, variant: str, irreps: Irreps) -> TensorProduct:
        channels = self.interaction_channels or min(mul for mul, _ in irreps)
        operand = operand_irreps(irreps, channels)
        name = interaction_variant(self.interaction, variant)
        return tensor_product(name, operand, operand, operand)

    @torch.jit.unused
    def keep_species(self, index: torch.Tensor) -> None:
        """See `Potential.of_species`."""
        keep_rows(self, index, "embedding")
        self.num_species = len(index)

    @torch.jit.unused
    def swap(self, variant: str) -> None:
        """Replace the algorithm of every convolution and node product; no weight changes."""
        like = {"device": self.embedding.device, "dtype": self.embedding.dtype}
        for layer in self.layers:
            irreps = layer.conv.irreps_node
            layer.conv = self._convolution(variant, irreps, layer.gate.irreps_in).to(**like)
            if isinstance(layer.interaction, NodeProduct):
                layer.interaction.product = self._interaction_product(variant, irreps).to(**like)
        self._collect_bases()

    @torch.jit.unused
    def _collect_bases(self) -> None:
        bases, self.basis_of_layer = share_edge_bases(self.layers)
        self.bases = torch.nn.ModuleList(bases).to(self.embedding.device, self.embedding.dtype)
        self.as_op = False
        use_ops(self, self.layers[0].conv.compiled)

    def _isolated(self) -> torch.Tensor:
        """Energies of the species without neighbours: [num_species]; constant when frozen."""
        x = self.embedding
        for layer in self.layers:
            x = layer.isolated(x)
        return self.readout(x)

    def forward(self, species: torch.Tensor, edge_index: torch.Tensor,
                edge_vectors: torch.Tensor, n_local: int) -> torch.Tensor:  # fmt: skip
        receivers, senders = edge_index[0], edge_index[1]
        edge_feats, lengths = self.radial_basis.of_edges(edge_vectors)  # [E, num_basis], [E]
        bases: list[torch.Tensor] = []
        for basis in self.bases:
            bases.append(basis(edge_vectors))
        local = species[:n_local]
        one_hot = edge_vectors.new_zeros(0)
        if not self.as_op or edge_vectors.is_cuda:  # the op reads the species themselves
            one_hot = torch.nn.functional.one_hot(local, self.num_species).to(edge_vectors.dtype)
        x = self.embedding.index_select(0, species)  # layer 0 knows its ghosts: no exchange
        for n, layer in enumerate(self.layers):
            edge_basis = bases[self.basis_of_layer[n]]
            x = layer(x, local, one_hot, edge_basis, edge_feats, senders, receivers)
        energy = self.readout(x) - self.isolated().index_select(0, local)
        if self.repulsive:
            zs, zr = species.index_select(0, senders), species.index_select(0, receivers)
            energy = energy + self.pair_repulsion(lengths, zs, zr, receivers, n_local)
        return energy


def _connections(kinds: str | list[str], num_layers: int) -> list[str]:
    """The self-connection of each layer."""
    kinds = [kinds] * num_layers if isinstance(kinds, str) else list(kinds)
    if len(kinds) != num_layers:
        raise InputError(f"self_connection lists {len(kinds)} layers, num_layers is {num_layers}")
    return [check_name("self_connection", k, ("species", "common", "none")) for k in kinds]


def _check_kinds(normalization: str, symmetry: str, cutoff: str) -> None:
    check_name("normalization", normalization, ("none", "rms"))
    check_name("symmetry", symmetry, ("O3", "SO3"))
    check_name("cutoff_function", cutoff, ("polynomial", "xplor"))


def _layer_irreps(hidden_irreps: str | list[str], num_layers: int) -> list[Irreps]:
    """What each layer makes; the last one keeps even scalars alone unless a list says more."""
    if isinstance(hidden_irreps, str):
        hidden = as_irreps(hidden_irreps).sort().irreps.simplify()
        scalars = Irreps([(hidden.count(Irrep("0e")), Irrep("0e"))])
        return [hidden] * (num_layers - 1) + [scalars]
    if len(hidden_irreps) != num_layers:
        raise InputError(
            f"hidden_irreps lists {len(hidden_irreps)} layers, num_layers is {num_layers}"
        )
    wanted = [as_irreps(irreps).sort().irreps.simplify() for irreps in hidden_irreps]
    if [ir for _, ir in wanted[-1]] != [Irrep("0e")]:
        raise InputError(f"the last layer makes {wanted[-1]}; the readout takes 0e alone")
    return wanted


def _padding(present: Irreps, wanted: Irreps) -> list[tuple[int, int]]:
    """(1 where the block exists, else 0; its width) for each block of `wanted`."""
    if present == wanted:
        return [(1, wanted.dim)]
    return [(int(ir in present), mul * ir.dim) for mul, ir in wanted]
