"""TorchScript: the only file that mentions its API.

A scripted potential runs without Python's overhead in ASE and without Python in LAMMPS. The
exported file is a cache of a potential for one variant and dtype: made locally, rebuilt at will.
"""

from __future__ import annotations

import copy
import json
import os
import tempfile
import warnings
import zipfile
from pathlib import Path

import torch

import tpcalc
from tpcalc.errors import InputError, check_name
from tpcalc.kernels.ops import load_ops
from tpcalc.nn.radial_spline import spline_radials
from tpcalc.potential import Potential
from tpcalc.storage import DTYPE_NAMES
from tpcalc.tensor_products.symmetric.base import fold_products

FORMAT = "tpcalc-torchscript-1"


def scripted(potential: Potential) -> torch.jit.ScriptModule:
    """A frozen TorchScript copy of `potential` in its present variant, dtype and device.

    Constants are folded (the energies of isolated atoms among them); weights do not require
    gradients. The signature is that of `Potential.forward`.
    """
    frozen = copy.deepcopy(potential).eval().requires_grad_(False)
    fold_products(frozen)
    with warnings.catch_warnings():  # torch deprecates TorchScript; the exporter is our seam
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.freeze(torch.jit.script(frozen))


class Scripted:
    """`scripted(potential)`, called without torch's profiling executor: on a CPU that compiles in
    the first three calls and gains nothing."""

    def __init__(self, potential: Potential):
        self.module = scripted(potential)

    def __call__(
        self, species: torch.Tensor, edge_index: torch.Tensor, edge_vectors: torch.Tensor, n: int
    ) -> torch.Tensor:
        with torch.jit.optimized_execution(edge_vectors.is_cuda):
            return self.module(species, edge_index, edge_vectors, n)


def export_manifest(potential: Potential, dtype: str) -> dict:
    """What LAMMPS reads beside the code; see docs of `pair_style tpcalc`."""
    source = getattr(potential, "manifest", None) or {}
    return {
        "format": FORMAT,
        "tpcalc": tpcalc.__version__,
        "torch": torch.__version__,
        "cutoff": potential.cutoff,
        "species": potential.species,
        "dtype": dtype,
        "units": "metal",
        "function": potential.config["function"],
        "variant": potential.variant,
        "algorithm_class": potential.model.layers[0].conv.algorithm_class,
        "radial": "spline" if hasattr(potential, "spline_error") else "network",
        "spline_error": getattr(potential, "spline_error", 0.0),
        "spline_slope_error": getattr(potential, "spline_slope_error", 0.0),
        "num_layers": potential.num_layers,
        "halo": potential.num_layers > 1,
        "source_sha256": source.get("sha256", ""),
        "licence": source.get("licence", ""),
        "citation": source.get("citation", ""),
    }


def export_potential(
    potential: Potential, path: str | Path, dtype: str = "float32", variant: str | None = None,
    radial: str = "network", elements: list[str] | None = None,
) -> dict:  # fmt: skip
    """Write `potential` as one TorchScript file with its manifest inside; returns the manifest.

    `potential` itself is left as it is. The file appears whole or not at all. `radial="spline"`
    replaces the radial networks by splines in the fused convolutions: faster, their error (about
    1e-6 of the path weights) is in the manifest. `elements` keeps these alone (None: all): a
    potential of 89 becomes small, and splines for each pair of them possible.

    Raises:
        InputError: unknown dtype, variant or kind of radial functions, splines without a fused
            variant, an unknown element, or a path that cannot be written.
    """
    path = Path(path)
    check_name("kind of radial functions", radial, ("network", "spline"))
    torch_dtype = DTYPE_NAMES[check_name("dtype", dtype, DTYPE_NAMES)]
    if path.suffix != ".pt":
        raise InputError(f"export to {str(path)!r}: the file name must end in .pt")
    if not path.parent.is_dir():
        raise InputError(f"export to {str(path)!r}: no folder {str(path.parent)!r}; make it first")
    work = copy.deepcopy(potential).to("cpu")
    if variant is not None:
        work.swap(variant)
    if elements is not None:
        work = work.of_species(elements)
    if radial == "spline":
        work = spline_radials(work)
    work.set_dtype(torch_dtype)
    manifest = export_manifest(work, dtype)
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".part")
    os.close(handle)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            module = scripted(work)
            extra = {"manifest.json": json.dumps(manifest, indent=1)}
            torch.jit.save(module, temporary, _extra_files=extra)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)
    return manifest


def _needs_ops(path: Path | str) -> bool:
    """Whether the file calls our compiled ops; torch refuses to load it before they exist."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        names = [n for n in archive.namelist() if n.endswith("extra/manifest.json")]
        return bool(names) and json.loads(archive.read(names[0]))["variant"].endswith("/fused")


def load_exported(path: str | Path) -> tuple[torch.jit.ScriptModule, dict]:
    """The module and manifest of an exported file (for tests and for running it from Python).

    A TorchScript file is a program: load only what you exported yourself.

    Raises:
        InputError: not a file of `export_potential`.
    """
    from tpcalc.halo import register_halo_exchange

    register_halo_exchange()
    extra = {"manifest.json": ""}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            if _needs_ops(path):
                load_ops()
            module = torch.jit.load(str(path), map_location="cpu", _extra_files=extra)
        manifest = json.loads(extra["manifest.json"])
    except (RuntimeError, ValueError, KeyError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else "no manifest"
        raise InputError(
            f"{str(path)!r} is no exported potential ({first}); make one with "
            "`tpcalc export NAME.safetensors -o NAME.pt`"
        ) from error
    return module, manifest
