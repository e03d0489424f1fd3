"""Tensor products by name: `function/algorithm`.

`VARIANTS` is the one list of variants, read by library, tests, benchmarks, CLI and README.
To add one: write its file, add its line, run the tests.
"""

from __future__ import annotations

import importlib
import re

from tpcalc.errors import InputError, MissingDependency, check_name
from tpcalc.tensor_products.base import Convolution, TensorProduct
from tpcalc.tensor_products.symmetric.base import ManyBody

# name -> "module:class" below tpcalc.tensor_products, a TensorProduct
VARIANTS = {
    "cg/reference": "cg.reference:CgReference",
    "cg/e3nn": "cg.e3nn:CgE3nn",
    "cg/sparse": "cg.sparse:CgSparse",
    "cg/grouped": "cg.grouped:CgGrouped",
    "cg/fused": "cg.fused:CgFused",
    "cg/so2": "cg.so2:CgSo2",
    "cg/so2_truncated": "cg.so2:CgSo2Truncated",
    "shared/reference": "shared.reference:SharedReference",
    "shared/edge_matrix": "shared.edge_matrix:SharedEdgeMatrix",
    "shared/fused": "shared.fused:SharedFused",
    "shared/cp": "shared.cp:SharedCp",
    "gaunt/reference": "gaunt.reference:GauntReference",
    "gaunt/grid": "gaunt.grid:GauntGrid",
    "gaunt/separable": "gaunt.separable:GauntSeparable",
    "gaunt/fourier": "gaunt.fourier:GauntFourier",
    "gaunt/fused": "gaunt.fused:GauntFused",
    "gaunt_full/reference": "gaunt_full.reference:GauntFullReference",
    "gaunt_full/grid": "gaunt_full.grid:GauntFullGrid",
    "matrix/reference": "matrix.reference:MatrixReference",
    "matrix/matmul": "matrix.matmul:MatrixMatmul",
    "vector/reference": "vector.reference:VectorReference",
    "vector/grid": "vector.grid:VectorGrid",
}


# algorithms from fastest to slowest, as `tpcalc bench layer` finds them on a CPU, and as
# `tpcalc bench microbenchmark --places interaction` does for two operands with channels
PREFERRED = ("fused", "edge_matrix", "grouped", "matmul", "grid", "e3nn", "sparse", "reference")
PREFERRED_PAIRS = ("matmul", "grid", "sparse", "reference")

# name -> "module:class", a ManyBody: symmetric powers of node features
MANY_BODY = {
    "cg/u_tensor": "symmetric.cg:CgSymmetric",
    "cg/polynomial": "symmetric.cg:CgPolynomial",
    "cg/fused": "symmetric.fused:CgPolynomialFused",
    "gaunt/reference": "symmetric.gaunt:GauntSymmetric",
    "gaunt/grid": "symmetric.gaunt:GauntSymmetricGrid",
    "gaunt/fourier": "symmetric.gaunt:GauntSymmetricFourier",
}
# many-body algorithms from fastest to slowest, as `tpcalc bench microbenchmark` finds them
MANY_BODY_PREFERRED = ("fused", "polynomial", "grid", "u_tensor", "reference")


def parse_variant(variant: str) -> tuple[str, dict]:
    """Split off the terms of `gaunt:R/...`: the plain name and its options.

    Raises:
        InputError: the name is not in `VARIANTS`, or R is not a positive whole number.
    """
    match = re.fullmatch(r"(\w+):(\w+)/(\w+)", variant)
    if not match:
        return check_name("variant", variant, VARIANTS), {}
    function, terms, algorithm = match.groups()
    if not terms.isdigit() or int(terms) < 1:
        raise InputError(f"variant {variant!r}: {terms!r} terms; a whole number >= 1 is needed")
    return check_name("variant", f"{function}/{algorithm}", VARIANTS), {"terms": int(terms)}


def variant_class(variant: str) -> type[TensorProduct]:
    """The class behind a name; its attributes say what it promises.

    Raises:
        InputError: unknown name.
        MissingDependency: the optional package of this variant is absent.
    """
    name, _ = parse_variant(variant)
    module, _, cls = VARIANTS[name].partition(":")
    try:
        return getattr(importlib.import_module(f"tpcalc.tensor_products.{module}"), cls)
    except ModuleNotFoundError as error:
        raise MissingDependency(f"variant {name!r} needs the package {error.name!r}") from error


def tensor_product(
    variant: str, irreps_in1, irreps_in2, irreps_out=None, **options
) -> TensorProduct:
    """The bilinear map of a variant; `irreps_out` names the output irreps to keep.

    Raises:
        InputError: unknown variant, irreps or option.
    """
    cls = variant_class(variant)
    options = {**parse_variant(variant)[1], **options}
    known = getattr(cls, "options", ())
    for name in options:
        check_name(f"option of {variant}", name, known)
    return cls(irreps_in1, irreps_in2, irreps_out, **options)


def convolution(variant: str, irreps_node, irreps_edge, irreps_out=None, **options) -> Convolution:
    """Node features times edge basis, summed over neighbours, by a variant.

    Raises:
        InputError: unknown variant, irreps or option.
    """
    return tensor_product(variant, irreps_node, irreps_edge, irreps_out, **options).convolution()


def default_variant(function: str) -> str:
    """The algorithm that runs where none is named: the first of `PREFERRED` that can run here.

    Fused kernels need a C++ compiler once; without one the best pure-PyTorch algorithm is taken.
    """
    function = check_name("function", function.split(":")[0], functions())
    for algorithm in PREFERRED:
        name = f"{function}/{algorithm}"
        if name in VARIANTS and variant_class(name).available():
            return name
    return f"{function}/reference"


def interaction_variant(function: str, like: str) -> str:
    """The algorithm of a node-wise product, both operands with channels: that of the variant
    `like` where it is one of this function and has this place, else the first of
    `PREFERRED_PAIRS`.

    `function` may carry terms ("gaunt:2").
    """
    name, _, terms = function.partition(":")
    own, algorithm = parse_variant(like)[0].split("/")
    if own != name or "interaction" not in variant_class(f"{own}/{algorithm}").places:
        algorithm = next(a for a in PREFERRED_PAIRS if f"{name}/{a}" in VARIANTS)
    return f"{name}:{terms}/{algorithm}" if terms else f"{name}/{algorithm}"


def functions() -> list[str]:
    """The functions that have variants, in the order of the table."""
    return list(dict.fromkeys(name.split("/")[0] for name in VARIANTS))


def many_body(
    variant: str, irreps_in, irreps_out=None, correlation: int = 3, num_species: int = 1, **options
) -> ManyBody:
    """Symmetric powers 1..correlation of node features; variants: `MANY_BODY`.

    Raises:
        InputError: unknown variant, irreps or option.
    """
    cls = many_body_class(variant)
    for option in options:
        check_name(f"option of {variant}", option, cls.options)
    return cls(irreps_in, irreps_out, correlation, num_species, **options)


def default_many_body(function: str) -> str:
    """The many-body algorithm that runs where none is named: the first of its function in
    `MANY_BODY_PREFERRED` that can run here.

    Raises:
        InputError: the function has no many-body product.
    """
    check_name("many-body function", function, {name.split("/")[0] for name in MANY_BODY})
    for algorithm in MANY_BODY_PREFERRED:
        name = f"{function}/{algorithm}"
        if name in MANY_BODY and many_body_class(name).available():
            return name
    return f"{function}/reference"


def many_body_class(variant: str) -> type[ManyBody]:
    """The class behind a name of `MANY_BODY`.

    Raises:
        InputError: unknown name.
    """
    module, _, name = MANY_BODY[check_name("many-body variant", variant, MANY_BODY)].partition(":")
    return getattr(importlib.import_module(f"tpcalc.tensor_products.{module}"), name)


def variants_of(function: str) -> list[str]:
    """All names of one function, in the order of the table."""
    return [name for name in VARIANTS if name.split("/")[0] == function.split(":")[0]]
