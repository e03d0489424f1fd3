"""The ASE face: `atoms.calc = TPCalculator("potential.safetensors")`."""

from __future__ import annotations

import copy

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from tpcalc import autotune
from tpcalc.devices import as_device
from tpcalc.errors import InputError, check_name
from tpcalc.evaluator import Evaluation, Evaluator
from tpcalc.export import Scripted
from tpcalc.nn.radial_spline import sees_species, spline_radials
from tpcalc.potential import Potential
from tpcalc.splined_evaluator import SplinedEvaluator
from tpcalc.storage import as_dtype, load_potential
from tpcalc.tensor_products import parse_variant
from tpcalc.tensor_products.symmetric.base import fold_products

MODES = ("eager", "torchscript")


class TPCalculator(Calculator):
    """Energy, forces and stress of a potential, with a tensor product of your choice.

    Args:
        potential: path of a NAME.safetensors, a `Potential` (copied), or a list of either: a
            committee, whose mean is returned and whose spread is in
            `results["energy_std"]` (eV) and `results["forces_std"]` [N, 3] (eV/Å).
        variant: a name of `tpcalc variants`; None takes `default_variant`, the fastest that can
            run here by a fixed order (a given `Potential` keeps its own); "auto" measures the
            exact variants on the first structure and remembers the fastest on disk.
        device: anything torch accepts.
        dtype: "float32" (energy sums and geometry stay float64) or "float64".
        skin: Å added to the neighbour list, which is reused until atoms move more than half of it.
        mode: "eager", or "torchscript": a compiled copy of the network, made here and after each
            swap; steps of small systems are faster, the first three take about 0.3 s.
        radial: "network", or "spline": radial networks as splines in the fused kernels. Two to
            three times faster with many atoms; forces are those of the splined energy, about
            1e-5 of the largest force away. Needs a fused variant; no swaps. MACE has splines for
            each pair of elements: they are made when a structure brings new elements (seconds).

    Properties: energy = free_energy (eV), energies [N], forces [N, 3] (eV/Å); with a cell that
    has a volume also stress (Voigt, eV/Å³, tension positive) and stresses [N, 6], whose sum is
    the stress. Torch's global state (default dtype, threads, seeds) is never touched.

    Raises:
        InputError: unusable file, variant, element, positions or cell; see each function.
        CheckFailed: a result that is not finite.
    """

    implemented_properties = ["energy", "free_energy", "energies", "forces", "stress", "stresses"]
    default_parameters: dict = {}
    discard_results_on_any_change = True

    def __init__(self, potential, variant: str | None = None, device="cpu",
                 dtype: str | torch.dtype = "float32", skin: float = 0.5,
                 mode: str = "eager", radial: str = "network"):  # fmt: skip
        super().__init__()
        members = potential if isinstance(potential, (list, tuple)) else [potential]
        if not members:
            raise InputError("the committee is empty; give at least one potential")
        dtype = as_dtype(dtype)
        first = None if variant == "auto" else variant
        self.mode = check_name("mode", mode, MODES)
        potentials = [_open(m, first, device, dtype) for m in members]
        self.radial = check_name("kind of radial functions", radial, ("network", "spline"))
        if self.radial == "spline":
            if variant == "auto":
                raise InputError('radial="spline" needs a fused variant, not "auto"')
            self.evaluators = [self._splined(p, skin) for p in potentials]
        else:
            self.evaluators = [Evaluator(p, skin) for p in potentials]
        self._prepare()
        self.num_edges = 0  # of the last structure
        self._tune = variant == "auto"

    def _splined(self, potential: Potential, skin: float) -> Evaluator:
        if not sees_species(potential):
            return Evaluator(spline_radials(potential), skin)
        script = Scripted if self.mode == "torchscript" else None
        return SplinedEvaluator(potential, skin, script)

    @property
    def potential(self) -> Potential:
        """The potential (the first of a committee)."""
        return self.evaluators[0].potential

    @property
    def variant(self) -> str:
        """The variant that runs; "auto" until the first structure has been seen."""
        return "auto" if self._tune else self.potential.variant

    def swap(self, variant: str) -> TPCalculator:
        """Compute with another algorithm of the same function; the weights stay.

        Raises:
            InputError: unknown variant, or one of another function.
            MissingDependency: the variant's package or kernel is absent.
        """
        self._tune = variant == "auto"
        if not self._tune:
            self._use(variant)
        self.reset()
        return self

    def _use(self, variant: str) -> None:
        self._tune = False
        if self.radial == "spline" and parse_variant(variant)[0] != self.potential.variant:
            raise InputError(
                f"this calculator has radial splines made for {self.potential.variant!r}; make "
                f"another TPCalculator for {variant!r}"
            )
        for evaluator in self.evaluators:
            evaluator.potential.swap(variant)
        self._prepare()

    def _prepare(self) -> None:
        if self.mode == "torchscript":
            for evaluator in self.evaluators:
                if isinstance(evaluator, SplinedEvaluator):
                    continue  # scripts by itself, when it has made its splines
                evaluator.run = Scripted(evaluator.potential)

    def check_state(self, atoms, tol=1e-15):
        """What changed since the last call: of all that ASE compares, only what is read here."""
        old = self.atoms
        if old is None or len(old) != len(atoms):
            return list(all_changes)
        pairs = {
            "positions": (old.positions, atoms.positions), "numbers": (old.numbers, atoms.numbers),
            "cell": (old.cell.array, atoms.cell.array), "pbc": (old.pbc, atoms.pbc),
        }  # fmt: skip
        return [name for name, (a, b) in pairs.items() if not np.array_equal(a, b)]

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        """ASE's entry; fills `results` with everything that one pass gives."""
        super().calculate(atoms, properties, system_changes)
        structure = _structure(self.atoms)
        if self._tune:
            self._choose(structure)
        virials = _volume(self.atoms) > 0
        runs = [evaluator(*structure, virials) for evaluator in self.evaluators]
        self.num_edges = runs[0].num_edges
        self.results = _results(runs, self.atoms)
        for name in properties:
            if name in self.implemented_properties and name not in self.results:
                raise PropertyNotImplementedError(
                    f"{name} needs a cell with a volume; this one is {self.atoms.cell.tolist()}"
                )

    def evaluate(self, structures: list[Atoms], max_edges: int = 200_000) -> list[dict]:
        """Results of many structures, computed together in batches of about `max_edges` edges."""
        listed = [_structure(atoms) for atoms in structures]
        if self._tune and listed:
            self._choose(listed[0])
        runs = [evaluator.batch(listed, max_edges) for evaluator in self.evaluators]
        return [_results(run, atoms) for run, atoms in zip(zip(*runs), structures)]

    def get_hessian(self, atoms: Atoms | None = None, method: str = "autograd",
                    step: float = 1e-3) -> np.ndarray:  # fmt: skip
        """Second derivatives of the energy [3N, 3N], eV/Å², symmetric; use dtype="float64".

        `autograd` differentiates the forces (3N backward passes); `finite_differences` takes
        central differences of forces with `step` (Å). A committee gives its mean.
        """
        check_name("method", method, ("autograd", "finite_differences"))
        atoms = atoms if atoms is not None else self.atoms
        if atoms is None:
            raise InputError("get_hessian() has no structure yet; pass atoms")
        structure = _structure(atoms)
        if self._tune:
            self._choose(structure)
        if method == "autograd":
            hessian = np.mean([_autograd_hessian(e, *structure) for e in self.evaluators], axis=0)
        else:
            hessian = np.mean(
                [_difference_hessian(e, *structure, step) for e in self.evaluators], axis=0
            )
        return 0.5 * (hessian + hessian.T)

    def _choose(self, structure: tuple) -> None:
        """Swap to the fastest exact variant for this structure, measured or remembered."""
        key = f"{self.mode} {autotune.cache_key(self.potential, len(structure[3]))}"
        usable, _ = autotune.runnable_variants(self.potential)
        choice = autotune.remembered(key)
        if choice not in usable:
            calls = {}
            for name in usable:
                own = copy.deepcopy(self.potential).swap(name)
                run = Scripted(own) if self.mode == "torchscript" else None
                evaluator = Evaluator(own, self.evaluators[0].neighbors.skin, run)
                calls[name] = lambda e=evaluator: e(*structure)
            times = autotune.fastest(calls)
            choice = min(times, key=times.get)
            autotune.remember(key, choice)
        self._use(choice)

    def __repr__(self) -> str:
        p = self.potential
        weights = sum(x.numel() for x in p.parameters())
        committee = f" (committee of {len(self.evaluators)})" if len(self.evaluators) > 1 else ""
        return (
            f"TPCalculator({p.config['architecture']} {p.config['function']}, {p.num_layers} "
            f"layers, {weights} weights{committee}; variant {self.variant}, "
            f"{str(p.dtype).removeprefix('torch.')}, {p.shifts.device}, cutoff {p.cutoff} Å, "
            f"{' '.join(p.species)})"
        )


def _open(potential, variant: str | None, device, dtype: torch.dtype) -> Potential:
    if not isinstance(potential, Potential):
        return load_potential(potential, variant, dtype, device)
    device = as_device(device)
    own = copy.deepcopy(potential).to(device)  # swap() and dtype must not reach the caller's
    own = own.set_dtype(dtype).eval().requires_grad_(False)
    fold_products(own)
    return own if variant is None else own.swap(variant)


def _structure(atoms: Atoms) -> tuple:
    return atoms.positions, atoms.cell.array, atoms.pbc, atoms.numbers


def _volume(atoms: Atoms) -> float:
    """Å³; zero where the cell spans none."""
    return float(abs(np.linalg.det(atoms.cell.array)))


def _results(runs, atoms: Atoms) -> dict:
    """ASE's results of one structure from the runs of all members."""
    first: Evaluation = runs[0]
    volume = _volume(atoms)
    energies, forces, virials = first[:3]
    if len(runs) > 1:
        energies, forces = (np.mean([run[k] for run in runs], axis=0) for k in range(2))
        virials = np.mean([run.virials for run in runs], axis=0) if volume > 0 else None
    energy = float(energies.sum())
    results = {"energy": energy, "free_energy": energy, "energies": energies, "forces": forces}
    if volume > 0:
        results["stresses"] = full_3x3_to_voigt_6_stress(-virials / volume)
        results["stress"] = results["stresses"].sum(axis=0)
    if len(runs) > 1:
        results["energy_std"] = float(np.std([run.energies.sum() for run in runs]))
        results["forces_std"] = np.std([run.forces for run in runs], axis=0)
    return results


def _autograd_hessian(evaluator: Evaluator, positions, cell, pbc, numbers) -> np.ndarray:
    species = evaluator.species(numbers)
    graph = evaluator.neighbors.update(positions, cell, pbc, numbers)
    edge_index, vectors = evaluator.tensors(graph)
    n = graph.num_nodes
    hessian = np.zeros((3 * n, 3 * n))
    if graph.num_edges == 0:
        return hessian
    receivers, senders = edge_index
    with torch.enable_grad():
        moved = torch.zeros(n, 3, dtype=vectors.dtype, device=vectors.device, requires_grad=True)
        edges = vectors + moved[senders] - moved[receivers]
        energies = evaluator.run(species, edge_index, edges, n)
        (gradient,) = torch.autograd.grad(energies.sum(), moved, create_graph=True)
        for row, component in enumerate(gradient.reshape(-1)):
            (second,) = torch.autograd.grad(component, moved, retain_graph=True)
            hessian[row] = second.reshape(-1).double().cpu().numpy()
    return hessian


def _difference_hessian(evaluator: Evaluator, positions, cell, pbc, numbers, step) -> np.ndarray:
    n = len(positions)
    hessian = np.zeros((3 * n, 3 * n))
    for row in range(3 * n):
        moved = np.array(positions, dtype=np.float64)
        moved.reshape(-1)[row] += step
        plus = evaluator(moved, cell, pbc, numbers).forces
        moved.reshape(-1)[row] -= 2 * step
        minus = evaluator(moved, cell, pbc, numbers).forces
        hessian[row] = (minus - plus).reshape(-1) / (2 * step)
    return hessian
