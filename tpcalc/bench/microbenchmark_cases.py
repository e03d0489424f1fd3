"""What `tpcalc bench microbenchmark` times: the products in the places of a network."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from tpcalc.analysis.cost import CostCounter
from tpcalc.analysis.expressivity import SETTINGS, expressivity, jacobian_rank, setting_irreps
from tpcalc.errors import InputError
from tpcalc.export import scripted
from tpcalc.storage import DTYPE_NAMES
from tpcalc.tensor_products import convolution, many_body, tensor_product
from tpcalc.tensor_products.paths import natural_irreps

DEFAULT_VARIANTS = {
    "settings": "cg/e3nn,cg/reference,cg/sparse,gaunt/grid,gaunt/fourier,matrix/matmul",
    "interaction": "cg/e3nn,cg/sparse,gaunt/grid,gaunt/fourier,gaunt_full/grid,matrix/matmul",
    "convolution": "cg/e3nn,cg/grouped,cg/so2,cg/fused,shared/edge_matrix,shared/fused,gaunt/grid,"
    "gaunt/fused",
    "many-body": "cg/u_tensor,cg/polynomial,cg/fused,gaunt/grid,gaunt/fourier",
}
DEFAULT_BATCH = {"settings": 10000, "interaction": 100, "convolution": 200, "many-body": 200}
DEFAULT_CHANNELS = {"settings": 1, "interaction": 128, "convolution": 64, "many-body": 128}
# bytes of one output beyond which a case is left out rather than swapped to disk
MEMORY = 1.5e9


@dataclass
class Conditions:
    """One point of the sweep; `batch` counts pairs, nodes or atoms."""

    batch: int
    channels: int
    dtype: str
    device: str
    degree: int  # edges an atom
    correlation: int
    outputs: str  # irreps that many-body keeps


@dataclass
class Case:
    """One thing to time; too large an output is said in the row, not run."""

    row: dict
    product: torch.nn.Module | None = None  # TorchScript
    inputs: tuple = ()
    cost: CostCounter | None = None


def make_cases(place: str, lmax: int, variants: list[str], at: Conditions) -> list[Case]:
    """All cases of one place, degree and point of the sweep."""
    make = {"settings": _setting_cases, "interaction": _interaction_cases,
            "convolution": _convolution_cases, "many-body": _many_body_cases}[place]  # fmt: skip
    return make(lmax, variants, at)


def parity_of(variant: str) -> str:
    """Labels that let a function show all it can: see `setting_irreps`."""
    function = variant.split("/")[0].split(":")[0]
    return {"matrix": "none", "gaunt_full": "both", "vector": "both"}.get(function, "natural")


def degrees_of_freedom(variant: str, setting: str, lmax: int) -> int | None:
    """Expressivity (Jacobian rank); beyond degree 4 by its formula, None where there is none."""
    if lmax <= 4:
        return expressivity(variant, setting, lmax, parity_of(variant))
    n, function = lmax + 1, variant.split("/")[0]
    if setting == "MIMO":
        return {"cg": n * (n + 1) * (2 * n + 1) // 6, "gaunt": 4 * lmax + 1,
                "matrix": 4 * lmax + 1, "gaunt_full": 8 * lmax - 2}.get(function)  # fmt: skip
    if setting == "SIMO":
        return {"cg": n, "gaunt": n, "matrix": 2 * lmax + 1}.get(function)
    return {"cg": 1, "gaunt": 1, "matrix": 1}.get(function)


def _truncated_freedom(variant: str, lmax: int) -> int | None:
    """Degrees of freedom of one channel 0..L x 0..L -> 0..L, natural parity."""
    one = natural_irreps(lmax)
    if variant.startswith("cg/"):
        return len(tensor_product("cg/sparse", one, one, one).paths)
    if lmax > 4:
        return None
    function = variant.split("/")[0]
    return jacobian_rank(tensor_product(f"{function}/reference", one, one, one))


def _case(row: dict, product, inputs: tuple, at: Conditions, rows: int, dof=None) -> Case:
    row.update({"class": getattr(product, "algorithm_class", type(product).__name__), "dof": dof,
                "batch": at.batch, "channels": at.channels, "dtype": at.dtype,
                "device": at.device})  # fmt: skip
    size = rows * product.irreps_out.dim * inputs[0].element_size()
    if size > MEMORY:
        row["skipped"] = f"output of {size / 1e9:.1f} GB"
        return Case(row)
    product = product.to(device=at.device, dtype=DTYPE_NAMES[at.dtype])
    inputs = tuple(t.to(at.device) for t in inputs)
    with torch.no_grad(), CostCounter() as cost:
        product(*inputs)
    return Case(row, scripted(product), inputs, cost)


def _normal(at: Conditions, *shape) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(*shape, generator=generator, dtype=torch.float32).to(DTYPE_NAMES[at.dtype])


def _operands(product, at: Conditions) -> tuple[torch.Tensor, ...]:
    """x and y of every pair, one set of weights."""
    return (_normal(at, at.batch, product.irreps_in1.dim),
            _normal(at, at.batch, product.irreps_in2.dim),
            _normal(at, product.weight_numel))  # fmt: skip


def _setting_cases(lmax: int, variants: list[str], at: Conditions) -> list[Case]:
    cases = []
    for setting in SETTINGS:
        for variant in variants:
            irreps = setting_irreps(setting, lmax, parity_of(variant))
            irreps = tuple(text.replace("1x", f"{at.channels}x") for text in irreps)
            try:
                product = tensor_product(variant, *irreps)
            except InputError as error:
                if "no path leads" in str(error):
                    continue  # an empty computation: PoF's SISO at odd L
                raise
            dof = degrees_of_freedom(variant, setting, lmax)
            row = {"place": setting, "lmax": lmax, "variant": variant}
            cases.append(_case(row, product, _operands(product, at), at, at.batch, dof))
    return cases


def _interaction_cases(lmax: int, variants: list[str], at: Conditions) -> list[Case]:
    """Node features with themselves, channel by channel, one set of weights, outputs <= lmax."""
    irreps = natural_irreps(lmax, at.channels)
    cases = []
    for variant in variants:
        product = tensor_product(variant, irreps, irreps, irreps)
        row = {"place": "interaction", "lmax": lmax, "variant": variant}
        dof = _truncated_freedom(variant, lmax)
        cases.append(_case(row, product, _operands(product, at), at, at.batch, dof))
    return cases


def _convolution_cases(lmax: int, variants: list[str], at: Conditions) -> list[Case]:
    """Node features with the harmonics of `degree` edges an atom, weights an edge's own."""
    edges = at.batch * at.degree
    generator = torch.Generator().manual_seed(0)
    senders = torch.randint(at.batch, (edges,), generator=generator)
    receivers = torch.arange(at.batch).repeat_interleave(at.degree)
    node, edge = natural_irreps(lmax, at.channels), natural_irreps(lmax)
    cases = []
    for variant in variants:
        conv = convolution(variant, node, edge, node)
        with torch.no_grad():
            basis = conv.edge_basis(_normal(at, edges, 3))
        inputs = (_normal(at, at.batch, conv.irreps_node.dim), basis,
                  _normal(at, edges, conv.weight_numel), senders, receivers)  # fmt: skip
        place = f"convolution, {at.degree} edges an atom"
        row = {"place": place, "lmax": lmax, "variant": variant}
        cases.append(_case(row, conv, inputs, at, edges, _truncated_freedom(variant, lmax)))
    return cases


def _many_body_cases(lmax: int, variants: list[str], at: Conditions) -> list[Case]:
    """Powers up to `correlation`, four species, outputs `outputs`."""
    irreps = natural_irreps(lmax, at.channels)
    species = torch.arange(at.batch) % 4
    cases = []
    for variant in variants:
        product = many_body(variant, irreps, at.outputs, at.correlation, 4)
        inputs = (_normal(at, at.batch, product.irreps_in.dim), species)
        row = {"place": f"many-body {at.correlation}", "lmax": lmax, "variant": variant}
        cases.append(_case(row, product, inputs, at, at.batch))
    return cases
