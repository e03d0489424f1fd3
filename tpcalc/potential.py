"""A potential: architecture + weights + species + energy shifts; graph -> energy and forces."""

from __future__ import annotations

import copy
import inspect

import torch

from tpcalc.architectures.mace import Mace
from tpcalc.architectures.nequip import NequIP
from tpcalc.errors import InputError, check_name
from tpcalc.kept_species import keep_rows
from tpcalc.tensor_products import functions, parse_variant, variants_of

ARCHITECTURES = {"nequip": NequIP, "mace": Mace}
_OWN_KEYS = ("architecture", "function", "species", "cutoff", "scale", "shifts")
_BUILT = (
    "num_species",
    "species",
    "cutoff",
    "variant",
    "scale",
)  # the architecture's, made from those


class Potential(torch.nn.Module):
    """Energies of atoms from species and edge vectors.

    E_i = shift[species_i] + scale * model_i, in eV (one scale, or one a species); `scale` and
    `shifts` and their sum stay float64 in every dtype (a carbon atom is -1000 eV, forces come from
    meV). An atom without edges has exactly its shift.

    Attributes:
        species: element symbols, in the order of the species index.
        cutoff: Å.
        config: what `build_potential` needs to make this again (JSON-able).
        variant: the tensor-product variant in use.
    """

    __jit_unused_properties__ = ["dtype"]

    def __init__(self, model: torch.nn.Module, species: list[str], cutoff: float,
                 scale: float | list[float], shifts: list[float], config: dict,
                 variant: str):  # fmt: skip
        super().__init__()
        self.model = model
        self.species = list(species)
        self.cutoff = float(cutoff)
        self.num_layers = len(model.layers)
        self.config = config
        self.variant = variant
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float64))
        self.register_buffer("shifts", torch.tensor(shifts, dtype=torch.float64))

    def forward(self, species: torch.Tensor, edge_index: torch.Tensor,
                edge_vectors: torch.Tensor, n_local: int) -> torch.Tensor:  # fmt: skip
        """Node energies [n_local], float64, eV.

        Args:
            species: [n_all] index into `species`, local atoms first.
            edge_index: [2, E], row 0 receivers (local, ascending), row 1 senders.
            edge_vectors: [E, 3] r_sender - r_receiver, Å, in the model's dtype.
            n_local: atoms whose energy is wanted.
        """
        node = self.model(species, edge_index, edge_vectors, n_local)
        local = species[:n_local]
        scale = self.scale.index_select(0, local) if self.scale.dim() == 1 else self.scale
        return scale * node.double() + self.shifts.index_select(0, local)

    @torch.jit.unused
    def _apply(self, fn, recurse=True):
        scale, shifts = self.scale, self.shifts
        super()._apply(fn, recurse)
        self.scale = scale.to(self.scale.device)  # dtype changes must not reach these two
        self.shifts = shifts.to(self.shifts.device)
        return self

    @torch.jit.unused
    def swap(self, variant: str) -> Potential:
        """Use another algorithm of the same function; weights stay.

        Raises:
            InputError: the variant is unknown or belongs to another function.
        """
        name, _ = parse_variant(variant)
        function = self.config["function"]
        if name not in variants_of(function):
            raise InputError(
                f"variant {variant!r} computes another function than {function!r}, with which "
                f"this potential was trained; swap to one of {', '.join(variants_of(function))}"
            )
        if hasattr(self, "spline_error"):
            if name == self.variant:
                return self
            raise InputError(
                f"this potential has radial splines made for {self.variant!r}; swap to "
                f"{variant!r} first and make splines after that"
            )
        self.model.swap(name)
        self.variant = name
        return self

    @torch.jit.unused
    def of_species(self, symbols) -> Potential:
        """A copy that knows the elements `symbols` alone, in this order of species.

        Their energies and forces stay as they are; whatever is kept for each species is smaller.

        Raises:
            InputError: no element, or one that this potential does not know.
        """
        symbols = list(symbols)
        if not symbols:
            raise InputError(f"no element named; this potential knows {', '.join(self.species)}")
        for symbol in symbols:
            check_name("element", symbol, self.species)
        made = copy.deepcopy(self)
        rows = [n for n, symbol in enumerate(self.species) if symbol in symbols]
        if len(rows) < len(self.species):
            if hasattr(self, "spline_error"):
                raise InputError("choose elements before making radial splines, not after")
            index = torch.tensor(rows, device=self.shifts.device)
            for module in made.modules():
                if hasattr(module, "keep_species"):
                    module.keep_species(index)
        return made

    @torch.jit.unused
    def keep_species(self, index: torch.Tensor) -> None:
        """See `of_species`."""
        self.species = [self.species[n] for n in index.tolist()]
        keep_rows(self, index, "shifts", *(["scale"] if self.scale.dim() == 1 else []))
        config = self.config = dict(self.config, species=self.species)
        for key in ("shifts", "scale"):
            if isinstance(config.get(key), dict):
                config[key] = {s: v for s, v in config[key].items() if s in self.species}

    @torch.jit.unused
    def set_dtype(self, dtype: torch.dtype) -> Potential:
        """Convert the model to float32 or float64 (shifts and scale stay float64)."""
        self.to(dtype)
        return self

    @property
    def dtype(self) -> torch.dtype:
        return next(self.model.parameters()).dtype


def build_potential(config: dict, variant: str | None = None) -> Potential:
    """A potential with random weights (torch's generator), float64.

    Args:
        config: `architecture` ("nequip"), `function` ("cg", "shared", "gaunt", ...),
            `species` (element symbols), `cutoff` (Å), optional `scale` (eV, a number or
            symbol -> number) and `shifts` (eV, symbol -> energy), and the keyword arguments of
            the architecture.
        variant: an algorithm of the function; None takes the function's reference.

    Raises:
        InputError: unknown or missing keys, naming them.
    """
    for key in ("architecture", "function", "species", "cutoff"):
        if key not in config:
            raise InputError(f"potential config lacks {key!r}; it has {', '.join(config) or '-'}")
    architecture = ARCHITECTURES[check_name("architecture", config["architecture"], ARCHITECTURES)]
    known = [n for n in inspect.signature(architecture).parameters if n not in _BUILT]
    for key in config:
        check_name("key of the potential config", key, [*_OWN_KEYS, *known])
    function = config["function"]
    if not variants_of(function):
        check_name("function", function, functions())
    species = list(config["species"])
    shifts = config.get("shifts") or {}
    for symbol in shifts:
        check_name("element of the energy shifts", symbol, species)
    variant = parse_variant(variant or variants_of(function)[0])[0]
    if variant not in variants_of(function):
        raise InputError(f"variant {variant!r} does not compute the function {function!r}")
    scale = _scale(config.get("scale", 1.0), species)
    built = {
        "num_species": len(species), "species": species, "cutoff": config["cutoff"],
        "scale": scale,
    }  # fmt: skip
    model = architecture(
        variant=variant,
        **{key: built[key] for key in inspect.signature(architecture).parameters if key in built},
        **{key: config[key] for key in known if key in config},
    )  # fmt: skip
    return Potential(
        model, species, config["cutoff"], scale,
        [float(shifts.get(symbol, 0.0)) for symbol in species], dict(config), variant,
    )  # fmt: skip


def _scale(scale, species: list[str]) -> float | list[float]:
    """The scale as a number or one a species.

    Raises:
        InputError: a table that lacks an element or names an unknown one.
    """
    if not isinstance(scale, dict):
        return float(scale)
    for symbol in scale:
        check_name("element of the energy scales", symbol, species)
    missing = [symbol for symbol in species if symbol not in scale]
    if missing:
        raise InputError(f"energy scales lack {', '.join(missing)}; give one for every species")
    return [float(scale[symbol]) for symbol in species]


def energy_and_edge_gradient(
    potential: torch.nn.Module,
    species: torch.Tensor,
    edge_index: torch.Tensor,
    edge_vectors: torch.Tensor,
    n_local: int,
    create_graph: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(node energies [n_local] eV, g = dE/d(edge_vectors) [E, 3] eV/Å); g keeps its graph
    for training where `create_graph`."""
    edge_vectors = edge_vectors.detach().requires_grad_(True)
    node_energy = potential(species, edge_index, edge_vectors, n_local)
    if edge_vectors.shape[0] == 0:
        return node_energy, torch.zeros_like(edge_vectors)
    (g,) = torch.autograd.grad(node_energy.sum(), edge_vectors, create_graph=create_graph)
    return node_energy, g


def forces_from_edges(g: torch.Tensor, edge_index: torch.Tensor, n_atoms: int) -> torch.Tensor:
    """Forces [n_atoms, 3] eV/Å: f_receiver += g, f_sender -= g, in the dtype of g."""
    forces = torch.zeros(n_atoms, 3, dtype=g.dtype, device=g.device)
    return forces.index_add(0, edge_index[0], g).index_add(0, edge_index[1], -g)


def virial_from_edges(g: torch.Tensor, edge_vectors: torch.Tensor) -> torch.Tensor:
    """Virial -sum_e r_e (x) g_e [3, 3] eV, LAMMPS' sign; stress (ASE's sign) is -virial / V."""
    return -(edge_vectors.unsqueeze(2) * g.unsqueeze(1)).sum(0)
