"""MACE: convolutions and symmetric products. Source: Batatia et al., NeurIPS 2022."""

from __future__ import annotations

import torch
from e3nn.o3 import Irrep, Irreps

from tpcalc import tensor_products as products
from tpcalc.architectures.edge_bases import share_edge_bases
from tpcalc.architectures.isolated import IsolatedAtoms
from tpcalc.architectures.neighbor_sum import NeighborSum
from tpcalc.errors import InputError, check_name
from tpcalc.halo import register_halo_exchange
from tpcalc.kept_species import keep_rows
from tpcalc.kernels.ops import use_ops
from tpcalc.nn.cutoff import PolynomialCutoff
from tpcalc.nn.double import EdgeLengths
from tpcalc.nn.linear import Linear, SpeciesLinear
from tpcalc.nn.radial import AgnesiTransform, RadialMLP, ScaledLinear, TransformedBessel
from tpcalc.nn.readout import ScalarReadout
from tpcalc.nn.zbl import Zbl
from tpcalc.tensor_products.base import Convolution
from tpcalc.tensor_products.paths import as_irreps
from tpcalc.tensor_products.symmetric.base import ManyBody


class Density(ScaledLinear):
    """What a neighbour adds to the density of an atom: [E, num_basis], [E, 1] or None -> [E, 1]."""

    def __init__(self, num_basis: int):
        super().__init__(num_basis, 1, silu=False)

    def forward(
        self, edge_feats: torch.Tensor, envelope: torch.Tensor | None = None
    ) -> torch.Tensor:
        density = torch.tanh(torch.matmul(edge_feats, self.weight * self.scale).square())
        return density if envelope is None else density * envelope


class MaceLayer(NeighborSum):
    """Convolution, linear map, symmetric product, linear map; plus the self-connection.

    `residual`: the self-connection takes the layer's input to its output; otherwise it stands
    on the message (a matrix per species) and nothing is added. `density`: the message is
    divided by 1 + sum of tanh(d(r)^2) over neighbours instead of the mean number of them.
    """

    __constants__ = ["by_density", "residual"]  # TorchScript drops branches not taken

    def __init__(self, conv: Convolution, product: ManyBody, num_species: int, radial: RadialMLP,
                 num_basis: int, avg_num_neighbors: float, residual: bool, density: bool,
                 exchange: bool):  # fmt: skip
        super().__init__(conv, radial)
        irreps_in, target, out = conv.irreps_node, product.irreps_in, product.irreps_out
        self.linear_up = Linear(irreps_in, irreps_in)
        self.linear_down = Linear(conv.irreps_out, target)
        kept = Irreps([(mul, ir) for mul, ir in out if ir in irreps_in])
        ends = (irreps_in, kept) if residual else (target, target)
        self.self_connection = SpeciesLinear(ends[0], ends[1], num_species)
        self.product = product
        self.linear_out = Linear(out, out)
        self.density = Density(num_basis) if density else torch.nn.Identity()
        self.by_density, self.residual, self.exchange = density, residual, exchange
        self.kept_dim: int = kept.dim  # sorted irreps: the kept ones come first
        self.out_dim: int = out.dim
        self.norm = 1.0 / avg_num_neighbors

    def padded(self, sc: torch.Tensor) -> torch.Tensor:
        """Zeros for the irreps that the input does not have: [n, out_dim]."""
        return torch.nn.functional.pad(sc, [0, self.out_dim - self.kept_dim])

    def forward(self, x: torch.Tensor, species: torch.Tensor, one_hot: torch.Tensor,
                basis: torch.Tensor, edge_feats: torch.Tensor,
                envelope: torch.Tensor | None, senders: torch.Tensor,
                receivers: torch.Tensor) -> torch.Tensor:  # fmt: skip
        """`species` and `one_hot` of local atoms; `envelope` [E, 1] is for path weights."""
        n = species.shape[0]
        up = self.linear_up(x)
        if self.exchange:
            up = torch.ops.tpcalc.halo_exchange(up)  # [n_local, *] -> [n_all, *]
        message = self.messages(up, basis, edge_feats, envelope, senders, receivers, n)
        message = self.linear_down(message)
        if self.by_density:
            density = self.density(edge_feats, envelope)
            total = torch.zeros(n, 1, dtype=x.dtype, device=x.device)
            message = message / (total.index_add(0, receivers, density) + 1.0)
        else:
            message = message * self.norm
        if self.residual:
            sc = self.padded(self.self_connection(x[:n], species, one_hot))
            return self.linear_out(self.product(message, species)) + sc
        message = self.self_connection(message, species, one_hot)
        return self.linear_out(self.product(message, species))

    def isolated(self, x: torch.Tensor) -> torch.Tensor:
        """The layer for one atom of each species without neighbours: [num_species, out]."""
        if self.residual:
            return self.padded(self.self_connection.each_species(x))
        return torch.zeros(x.shape[0], self.out_dim, dtype=x.dtype, device=x.device)


class Mace(IsolatedAtoms):
    """Node energies from species and edges; in scaled units (see `Potential`).

    Args:
        species: element symbols the model knows.
        cutoff: Å.
        hidden_irreps: node features between layers, one multiplicity: "128x0e+128x1o".
        lmax: largest degree of the spherical harmonics of an edge, and of messages.
        num_layers: convolutions; the last one keeps even scalars.
        correlation: largest power of the symmetric product (body order - 1).
        num_basis, radial_hidden, cutoff_p: radial functions.
        avg_num_neighbors: messages are divided by it (`normalization` "count").
        readout_hidden: width of the last readout's hidden layer; the others are linear.
        first_block, block: "plain" or "residual", see `MaceLayer`.
        normalization: "count" or "density".
        radial_transform: "none" or "agnesi".
        pair_repulsion: "none" or "zbl".
        cutoff_at: "basis" (radial functions) or "weights" (path weights) carry the cutoff.
        many_body: variant of the symmetric product; None takes the fastest that can run here.
        tensor_product_options: passed to every convolution.
    """

    # TorchScript drops branches not taken
    __constants__ = ["transformed", "repulsive", "splined", "bessel_alone", "as_op"]

    def __init__(self, species: list[str], cutoff: float, variant: str,
                 hidden_irreps: str = "64x0e+64x1o", lmax: int = 3, num_layers: int = 2,
                 correlation: int = 3, num_basis: int = 8,
                 radial_hidden: tuple[int, ...] = (64, 64, 64), cutoff_p: float = 5.0,
                 avg_num_neighbors: float = 10.0, readout_hidden: int = 16,
                 first_block: str = "plain", block: str = "residual",
                 normalization: str = "count", radial_transform: str = "none",
                 pair_repulsion: str = "none", cutoff_at: str = "basis",
                 many_body: str | None = None,
                 tensor_product_options: dict | None = None):  # fmt: skip
        super().__init__()
        register_halo_exchange()
        check_name("first_block", first_block, ("plain", "residual"))
        check_name("block", block, ("plain", "residual"))
        check_name("normalization", normalization, ("count", "density"))
        check_name("radial_transform", radial_transform, ("none", "agnesi"))
        check_name("pair_repulsion", pair_repulsion, ("none", "zbl"))
        check_name("cutoff_at", cutoff_at, ("basis", "weights"))
        self.options = dict(tensor_product_options or {})
        self.num_species = len(species)
        hidden = _hidden(hidden_irreps)
        scalars = Irreps(hidden[:1])
        self.channels: int = hidden[0].mul
        self.irreps_edge = Irreps.spherical_harmonics(lmax)
        self.target = Irreps([(self.channels, ir) for _, ir in self.irreps_edge])
        many_body = many_body or products.default_many_body("cg")
        embedding = torch.randn(self.num_species, self.channels, dtype=torch.float64)
        self.embedding = torch.nn.Parameter(embedding)
        self.edge_lengths = EdgeLengths()
        self.radial_basis = TransformedBessel(cutoff, num_basis)
        self.cutoff = PolynomialCutoff(cutoff, cutoff_p)
        self.cutoff_at_basis = cutoff_at == "basis"
        self.transformed = radial_transform == "agnesi"
        self.bessel_alone = self.cutoff_at_basis and not self.transformed  # one op makes it
        self.transform = AgnesiTransform(species) if self.transformed else torch.nn.Identity()
        self.splined = False  # see tpcalc.nn.radial_spline
        self.pair_lengths = torch.nn.Identity()
        self.repulsive = pair_repulsion == "zbl"
        self.pair_repulsion = Zbl(species, cutoff_p) if self.repulsive else torch.nn.Identity()
        layers, readouts = [], []
        current = scalars
        for n in range(num_layers):
            last = n == num_layers - 1
            out = scalars if last else hidden
            conv = self._convolution(variant, current)
            product = products.many_body(many_body, self.target, out, correlation, self.num_species)
            radial = RadialMLP(num_basis, list(radial_hidden), conv.weight_numel)
            kind = first_block if n == 0 else block
            layers.append(
                MaceLayer(conv, product, self.num_species, radial, num_basis, avg_num_neighbors,
                          kind == "residual", normalization == "density", n > 0)
            )  # fmt: skip
            readouts.append(ScalarReadout(self.channels, readout_hidden if last else 0))
            current = out
        self.layers = torch.nn.ModuleList(layers)
        self.readouts = torch.nn.ModuleList(readouts)
        self._collect_bases()

    def _convolution(self, variant: str, irreps_node: Irreps) -> Convolution:
        return products.convolution(
            variant, irreps_node, self.irreps_edge, self.target, **self.options
        )

    @torch.jit.unused
    def keep_species(self, index: torch.Tensor) -> None:
        """See `Potential.of_species`."""
        keep_rows(self, index, "embedding")
        self.num_species = len(index)

    @torch.jit.unused
    def swap(self, variant: str) -> None:
        """Replace the algorithm of every convolution; no weight changes."""
        for layer in self.layers:
            new = self._convolution(variant, layer.conv.irreps_node)
            layer.conv = new.to(self.embedding.device, self.embedding.dtype)
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
        energy = torch.zeros(self.num_species, dtype=x.dtype, device=x.device)
        for layer, readout in zip(self.layers, self.readouts):
            x = layer.isolated(x)
            energy = energy + readout(x[:, : self.channels])
        return energy

    def edge_features(
        self, lengths: torch.Tensor, z_senders: torch.Tensor, z_receivers: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Radial features [E, num_basis], and what multiplies path weights, [E, 1] or None; both
        made in float64, given in the dtype of the model."""
        dtype = self.embedding.dtype
        if self.splined:
            return self.pair_lengths(lengths.to(dtype), z_senders, z_receivers), None
        distances = lengths
        if self.transformed:
            distances = self.transform(lengths, z_senders, z_receivers)
        edge_feats = self.radial_basis(distances)
        envelope = self.cutoff(lengths).unsqueeze(1)
        if self.cutoff_at_basis:
            return (edge_feats * envelope).to(dtype), None
        return edge_feats.to(dtype), envelope.to(dtype)

    def of_edges(
        self, edge_vectors: torch.Tensor, z_senders: torch.Tensor, z_receivers: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Lengths [E] float64, and `edge_features`."""
        if self.as_op and self.bessel_alone and not self.splined:  # noqa: SIM102
            if not edge_vectors.is_cuda:
                basis = self.radial_basis
                edge_feats, lengths = torch.ops.tpcalc.bessel(
                    edge_vectors, basis.frequencies, basis.prefactor, self.cutoff.operands
                )
                return lengths, edge_feats, None
        lengths = self.edge_lengths(edge_vectors)
        edge_feats, envelope = self.edge_features(lengths, z_senders, z_receivers)
        return lengths, edge_feats, envelope

    def forward(self, species: torch.Tensor, edge_index: torch.Tensor,
                edge_vectors: torch.Tensor, n_local: int) -> torch.Tensor:  # fmt: skip
        receivers, senders = edge_index[0], edge_index[1]
        zs, zr = species.index_select(0, senders), species.index_select(0, receivers)
        lengths, edge_feats, envelope = self.of_edges(edge_vectors, zs, zr)
        bases: list[torch.Tensor] = []
        for basis in self.bases:
            bases.append(basis(edge_vectors))
        local = species[:n_local]
        one_hot = edge_vectors.new_zeros(0)
        if not self.as_op or edge_vectors.is_cuda:  # the op reads the species themselves
            one_hot = torch.nn.functional.one_hot(local, self.num_species).to(edge_vectors.dtype)
        x = self.embedding.index_select(0, species)  # layer 0 knows its ghosts: no exchange
        energy = -self.isolated().index_select(0, local)
        if self.repulsive:
            energy = energy + self.pair_repulsion(lengths, zs, zr, receivers, n_local)
        for n, (layer, readout) in enumerate(zip(self.layers, self.readouts)):
            edge_basis = bases[self.basis_of_layer[n]]
            x = layer(x, local, one_hot, edge_basis, edge_feats, envelope, senders, receivers)
            energy = energy + readout(x[:, : self.channels])
        return energy


def _hidden(irreps: str) -> Irreps:
    """Sorted hidden irreps of one multiplicity, even scalars first."""
    hidden = as_irreps(irreps).sort().irreps.simplify()
    if hidden[0].ir != Irrep("0e") or len({mul for mul, _ in hidden}) != 1:
        raise InputError(
            f"hidden_irreps {irreps}: MACE needs even scalars and one multiplicity for all, "
            "without odd scalars, e.g. 64x0e+64x1o"
        )
    return hidden
