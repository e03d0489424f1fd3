"""Labelled structures from extended XYZ, their graphs, and batches of graphs."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import torch
from ase.data import atomic_numbers

from tpcalc.errors import InputError
from tpcalc.graph import build_graph
from tpcalc.train.config import DataConfig


@dataclass
class Frame:
    """One labelled structure; a label that the file lacks is None."""

    symbols: list[str]
    positions: np.ndarray  # [n, 3] Å
    cell: np.ndarray  # [3, 3] Å
    pbc: np.ndarray  # [3]
    energy: float | None  # eV
    forces: np.ndarray | None  # [n, 3] eV/Å
    stress: np.ndarray | None  # [3, 3] eV/Å³, positive = tension
    config_type: str


@dataclass
class GraphData:
    """Tensors of one structure; edges never change, so they are computed once."""

    species: torch.Tensor  # [n] int64
    edge_index: torch.Tensor  # [2, E] int64, receivers (sorted) | senders
    edge_vectors: torch.Tensor  # [E, 3]
    volume: float  # Å³, NaN without three periodic directions
    frame: Frame


@dataclass
class Batch:
    """B structures side by side, without edges between them. Absent labels are zero."""

    species: torch.Tensor  # [n] int64
    edge_index: torch.Tensor  # [2, E] int64
    edge_vectors: torch.Tensor  # [E, 3]
    graph_index: torch.Tensor  # [n] int64, the structure of each atom
    num_atoms: torch.Tensor  # [B] float64
    volume: torch.Tensor  # [B] Å³
    energy: torch.Tensor  # [B] float64, eV
    forces: torch.Tensor  # [n, 3] eV/Å
    stress: torch.Tensor  # [B, 3, 3] eV/Å³
    has_energy: torch.Tensor  # [B] bool
    has_forces: torch.Tensor  # [B] bool
    has_stress: torch.Tensor  # [B] bool


def find_data(name: str, base: Path) -> Path:
    """The file `name`: absolute, or below `base` (the YAML's folder), the working folder,
    $TPCALC_DATA, or `../shared/data` of the working folder.

    Raises:
        InputError: it is in none of them.
    """
    places = [base, Path.cwd()]
    if os.environ.get("TPCALC_DATA"):
        places.append(Path(os.environ["TPCALC_DATA"]))
    places.append(Path.cwd().parent / "shared" / "data")
    for place in places:
        path = (place / Path(name).expanduser()).resolve()
        if path.is_file():
            return path
    looked = ", ".join(str(place) for place in dict.fromkeys(places))
    raise InputError(
        f"data file {name!r} is not in {looked}; set TPCALC_DATA to the folder it is relative to"
    )


def file_sha256(path: Path) -> str:
    """Checksum that goes into the manifest."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_frames(path: str | Path, keys: DataConfig, need: tuple[str, ...] = ()) -> list[Frame]:
    """All structures of an extended XYZ file.

    Args:
        path: the file.
        keys: names of the labels in the file.
        need: labels ("energy", "forces", "stress") that at least one frame must carry.

    Raises:
        InputError: not readable, no frame, a needed label absent (names the keys found), a label
            of a wrong shape or not finite.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no file {str(path)!r}")
    try:
        images = ase.io.read(path, index=":", format="extxyz")
    except Exception as error:  # ASE raises many kinds on a broken file
        raise InputError(f"{path} is not extended XYZ: {type(error).__name__}: {error}") from error
    if not images:
        raise InputError(f"{path} holds no structure")
    frames = [_frame(atoms, keys, f"{path}, frame {i}") for i, atoms in enumerate(images)]
    for name in need:
        if all(getattr(frame, name) is None for frame in frames):
            raise InputError(_absent(path, name, getattr(keys, f"{name}_key"), images[0]))
    return frames


def _frame(atoms: Any, keys: DataConfig, where: str) -> Frame:
    n = len(atoms)
    energy = _label(atoms, atoms.info, keys.energy_key, (), where)
    forces = _label(atoms, atoms.arrays, keys.forces_key, (n, 3), where)
    stress = _label(atoms, atoms.info, keys.stress_key, None, where)
    if stress is not None:
        stress = _stress_matrix(stress, where, keys.stress_key)
        if not atoms.pbc.all():
            raise InputError(
                f"{where}: {keys.stress_key} with pbc {atoms.pbc.tolist()}; a stress needs three "
                "periodic directions, remove the label or set pbc"
            )
    return Frame(
        symbols=atoms.get_chemical_symbols(),
        positions=atoms.get_positions(),
        cell=np.array(atoms.cell),
        pbc=np.array(atoms.pbc),
        energy=None if energy is None else float(energy),
        forces=forces,
        stress=stress,
        config_type=str(atoms.info.get("config_type", "all")),
    )


def _label(atoms: Any, place: dict, key: str, shape: tuple | None, where: str):
    value = place.get(key)
    if value is None and atoms.calc is not None:  # ASE moves `energy`, `forces`, `stress` there
        value = atoms.calc.results.get(key)
    if value is None:
        return None
    try:
        value = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{where}: {key} is not numeric: {value!r}") from error
    if shape is not None and value.shape != shape:
        raise InputError(f"{where}: {key} has shape {value.shape}, expected {shape}")
    if not np.isfinite(value).all():
        raise InputError(f"{where}: {key} holds a value that is not finite; remove the frame")
    return value


def _stress_matrix(value: np.ndarray, where: str, key: str) -> np.ndarray:
    """[3, 3] from nine numbers row by row, or from Voigt's xx yy zz yz xz xy."""
    if value.size == 9:
        return value.reshape(3, 3)
    if value.size == 6:
        return value.ravel()[[0, 5, 4, 5, 1, 3, 4, 3, 2]].reshape(3, 3)
    raise InputError(f"{where}: {key} has {value.size} numbers, expected 9 (or 6, Voigt)")


def _absent(path: Path, name: str, key: str, atoms: Any) -> str:
    found = [*atoms.info, *atoms.arrays]
    if atoms.calc is not None:
        found += atoms.calc.results
    found = [item for item in found if item not in ("numbers", "positions")]
    return (
        f"{path} has no {key!r}; keys found: {', '.join(map(str, found)) or 'none'}; "
        f"set data.{name}_key to the right one"
    )


def split_isolated(frames: list[Frame]) -> tuple[list[Frame], list[Frame]]:
    """Structures to train on, and isolated atoms (one atom, no periodicity)."""
    isolated = [f for f in frames if len(f.symbols) == 1 and not f.pbc.any()]
    return [f for f in frames if not (len(f.symbols) == 1 and not f.pbc.any())], isolated


def species_of(frames: list[Frame]) -> list[str]:
    """Element symbols that occur, by atomic number."""
    return sorted({s for frame in frames for s in frame.symbols}, key=atomic_numbers.get)


def make_graphs(
    frames: list[Frame], species: list[str], cutoff: float, dtype: torch.dtype
) -> list[GraphData]:
    """Graph of every frame, edge vectors rounded once to `dtype`.

    Raises:
        InputError: an element that `species` lacks.
    """
    index = {symbol: i for i, symbol in enumerate(species)}
    graphs = []
    for frame in frames:
        unknown = sorted(set(frame.symbols) - set(species))
        if unknown:
            raise InputError(
                f"a structure contains {', '.join(unknown)}; the potential knows "
                f"{', '.join(species)}"
            )
        graph = build_graph(frame.positions, frame.cell, frame.pbc, cutoff)
        graphs.append(
            GraphData(
                species=torch.tensor([index[s] for s in frame.symbols]),
                edge_index=torch.from_numpy(graph.edge_index),
                edge_vectors=torch.from_numpy(graph.edge_vectors).to(dtype),
                volume=abs(np.linalg.det(frame.cell)) if frame.pbc.all() else float("nan"),
                frame=frame,
            )
        )
    return graphs


def make_batch(graphs: list[GraphData], device: str = "cpu") -> Batch:
    """Concatenate graphs; the order of atoms and edges of each is kept."""
    frames = [graph.frame for graph in graphs]
    sizes = torch.tensor([len(graph.species) for graph in graphs])
    offsets = (torch.cumsum(sizes, 0) - sizes).tolist()
    dtype = graphs[0].edge_vectors.dtype
    no_stress = np.zeros((3, 3))
    forces = [np.zeros((len(f.symbols), 3)) if f.forces is None else f.forces for f in frames]
    stress = np.stack([no_stress if f.stress is None else f.stress for f in frames])
    values = Batch(
        species=torch.cat([graph.species for graph in graphs]),
        edge_index=torch.cat([g.edge_index + o for g, o in zip(graphs, offsets)], dim=1),
        edge_vectors=torch.cat([graph.edge_vectors for graph in graphs]),
        graph_index=torch.repeat_interleave(torch.arange(len(graphs)), sizes),
        num_atoms=sizes.double(),
        volume=torch.tensor([graph.volume for graph in graphs], dtype=dtype),
        energy=torch.tensor([f.energy or 0.0 for f in frames], dtype=torch.float64),
        forces=torch.from_numpy(np.concatenate(forces)).to(dtype),
        stress=torch.from_numpy(stress).to(dtype),
        has_energy=torch.tensor([f.energy is not None for f in frames]),
        has_forces=torch.tensor([f.forces is not None for f in frames]),
        has_stress=torch.tensor([f.stress is not None for f in frames]),
    )
    if device == "cpu":
        return values
    return Batch(**{name: tensor.to(device) for name, tensor in vars(values).items()})
