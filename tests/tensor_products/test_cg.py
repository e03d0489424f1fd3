"""cg against e3nn's own product, built here without our code."""

import pytest
import torch
from e3nn import o3
from tpcalc.errors import InputError
from tpcalc.tensor_products import (
    convolution,
    default_variant,
    functions,
    tensor_product,
    variant_class,
    variants_of,
)

F64 = torch.float64


def e3nn_dense(irreps_in1, irreps_in2, mode, irreps_kept):
    """e3nn's TensorProduct and its dense tensor, coefficients in float64."""
    in1, in2 = o3.Irreps(irreps_in1), o3.Irreps(irreps_in2)
    found = sorted(
        (ir3, ir1, ir2, i, j)
        for i, (_, ir1) in enumerate(in1)
        for j, (_, ir2) in enumerate(in2)
        for ir3 in ir1 * ir2
        if ir3 in irreps_kept
    )
    out = [(in1[i].mul, ir3) for ir3, _, _, i, _ in found]
    instructions = [(i, j, n, mode, True) for n, (_, _, _, i, j) in enumerate(found)]
    before = torch.get_default_dtype()
    torch.set_default_dtype(F64)  # else e3nn rounds its coefficients to float32
    try:
        product = o3.TensorProduct(in1, in2, out, instructions, internal_weights=False,
                                   shared_weights=False)  # fmt: skip
    finally:
        torch.set_default_dtype(before)
    w = torch.randn(product.weight_numel, dtype=F64)
    x = torch.eye(in1.dim, dtype=F64)[:, None].expand(-1, in2.dim, -1)
    y = torch.eye(in2.dim, dtype=F64)[None].expand(in1.dim, -1, -1)
    flat = product(x, y, w.expand(in1.dim, in2.dim, -1))
    return w, flat


@pytest.mark.parametrize(
    ("in1", "in2", "mode"),
    [
        ("4x0e+3x1o+2x2e", "0e+1o+2e", "uvu"),
        ("2x0e+2x0o+3x1e+2x1o+1x3o", "0e+1o+2e+3o", "uvu"),
        ("2x0e+2x1o+2x2e", "2x0e+2x1o+2x2e", "uuu"),
    ],
)
def test_materialize_is_e3nns_tensor(in1, in2, mode):
    product = tensor_product("cg/reference", in1, in2)
    w, expected = e3nn_dense(in1, in2, mode, {ir for _, ir in product.irreps_out})
    assert product.weight_numel == len(w)
    # e3nn keeps one block a path; ours are its blocks side by side in mul_ir order
    torch.testing.assert_close(product.materialize(w), expected, rtol=1e-12, atol=1e-12)


def test_output_irreps_are_chosen_by_name():
    product = tensor_product("cg/e3nn", "8x0e+8x1o", "0e+1o+2e", "0e+1e")
    assert str(product.irreps_out) == "16x0e+8x1e"
    default = tensor_product("cg/e3nn", "8x0e+8x1o", "0e+1o+2e")
    assert max(ir.l for _, ir in default.irreps_out) == 1


def test_cross_product_is_present():
    product = tensor_product("cg/reference", "1o", "1o", "1e")
    x, y = torch.randn(2, 5, 3, dtype=F64)
    z = product(x, y, torch.ones(5, 1, dtype=F64))
    cross = torch.linalg.cross(x, y)
    ratio = z / cross
    torch.testing.assert_close(ratio, ratio[:1, :1].expand_as(ratio))
    assert abs(abs(ratio[0, 0].item()) - (1 / 2) ** 0.5) < 1e-12


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("cg/fussed", "1x0e", "0e"), "unknown variant 'cg/fussed'; did you mean"),
        (("cg/reference", "1x0e", "1o", "2e"), "no path leads from 1x0e x 1x1o to 1x2e"),
        (("cg/reference", "16q", "1o"), "irreps '16q' cannot be read"),
        (("cg/reference", "4x0e", "2x0e"), "cannot pair the channels of 4x0e with those of 2x0e"),
        (("gaunt:x/grid", "1x0e", "0e"), "'x' terms"),
    ],
)
def test_errors_name_the_value_and_the_rule(arguments, sentence):
    with pytest.raises(InputError, match=sentence):
        tensor_product(*arguments)


def test_unknown_option_is_refused():
    with pytest.raises(
        InputError, match="unknown option of gaunt/grid 'node'; did you mean 'nodes'"
    ):
        convolution("gaunt/grid", "2x0e+2x1o", "0e+1o", node="gauss")


def test_default_variant_is_one_that_can_run():
    for function in functions():
        name = default_variant(function)
        assert name in variants_of(function)
        assert variant_class(name).available()
        assert variant_class(name).exact
    with pytest.raises(InputError, match="unknown function 'gant'; did you mean 'gaunt'"):
        default_variant("gant")
