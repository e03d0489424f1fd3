"""Conversions between functions, measured on the maps they give."""

import json

import pytest
import torch
from e3nn import o3
from safetensors.torch import load_file, save_file
from tpcalc.analysis.convert import convert, summed_paths
from tpcalc.cli import main
from tpcalc.errors import InputError
from tpcalc.tensor_products import tensor_product

F64 = torch.float64
NATURAL = ("2x0e+2x1o+2x2e", "0e+1o+2e", "0e+1o+2e")


def product(name, irreps=NATURAL, rows=3, **options):
    made = tensor_product(name, *irreps, **options)
    return made, torch.randn(rows, made.weight_numel, dtype=F64)


@pytest.mark.parametrize("name", ["gaunt/reference", "gaunt:3/reference", "shared/reference"])
def test_exact_conversions_to_cg(name):
    source, w = product(name)
    found = convert(source, w, "cg")
    assert found.error < 1e-13
    assert found.weights.shape == (3, found.product.weight_numel)
    for a, b in zip(w, found.weights):
        made = torch.cat(list(summed_paths(found.product, b).values()), -1)
        torch.testing.assert_close(made, source.materialize(a), atol=1e-12, rtol=0)


def test_shared_to_cg_with_pseudo_outputs():
    source, w = product("shared/reference", ("2x0e+2x1o", "0e+1o", None))
    assert convert(source, w, "cg").error < 1e-13


def test_two_terms_hold_every_even_path_of_degree_2():
    source, w = product("cg/reference")
    assert convert(source, w, "gaunt", terms=2).error < 1e-9
    assert convert(source, w, "gaunt", terms=1).error > 1e-2


def test_odd_paths_are_lost_and_the_error_says_so():
    source, w = product("cg/reference", ("2x0e+2x1o", "0e+1o", "0e+1o+1e"))
    # the even part is still hit: what is missing is the block 1 x 1 -> 1e
    found = convert(source, w, "gaunt", terms=2)
    odd = sum(float(summed_paths(source, a)[o3.Irrep("1e")].square().sum()) for a in w)
    total = sum(float(b.square().sum()) for a in w for b in summed_paths(source, a).values())
    assert found.error == pytest.approx((odd / total) ** 0.5, rel=1e-3)


def test_rank_is_the_error_of_shared_to_cp():
    source, w = product("shared/reference")
    assert convert(source, w, "shared/cp").error < 1e-13
    found = convert(source, w, "shared/cp", rank=16)
    assert found.error == pytest.approx(found.product.tensor_error, rel=1e-6)


def test_unknown_conversion():
    source, w = product("gaunt/reference")
    with pytest.raises(InputError, match="no conversion gaunt -> matrix; known: gaunt -> cg"):
        convert(source, w, "matrix")


def test_command_reads_and_writes_weights(tmp_path, capsys):
    irreps = ["--irreps", "2x0e+2x1o", "--edge", "0e+1o", "--out-irreps", "0e+1o"]
    source = tensor_product("gaunt/reference", "2x0e+2x1o", "0e+1o", "0e+1o")
    file, out = tmp_path / "w.safetensors", tmp_path / "cg.safetensors"
    save_file({"weights": torch.randn(5, source.weight_numel)}, file)
    arguments = ["convert", "--json", "gaunt", "cg", *irreps]
    assert main([*arguments, "--weights", str(file), "-o", str(out)]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["error"] < 1e-6
    assert load_file(out)["weights"].shape == (5, result["target_weights"])
    assert main([*arguments, "--weights", str(tmp_path / "none")]) == 2
    assert "no file" in capsys.readouterr().err
    save_file({"weights": torch.randn(5, 3)}, file)
    assert main([*arguments, "--weights", str(file)]) == 2
    assert "the last axis must be 12" in capsys.readouterr().err


@pytest.mark.parametrize("what", ["expressivity", "interactability", "defect", "cp", "cost"])
def test_every_measure_prints_a_table(what, capsys):
    assert main(["analyse", what, "--lmax", "1", "--mul", "2"]) == 0
    assert len(capsys.readouterr().out.splitlines()) > 3


def test_analyse_refuses():
    assert main(["analyse", "expressivty"]) == 2
    assert main(["analyse", "cp", "--lmax", "0"]) == 2
