"""The command line: what it prints, its exit codes, and that errors are one line."""

import json
import os
import subprocess
import sys

import ase.io
import pytest
import torch
from tests.small import ethanol, random_potential
from tpcalc.bench.profile import kind_of
from tpcalc.bench.report import collect, force_errors, sentence
from tpcalc.cli import VERBS, main
from tpcalc.cli.bench import KINDS
from tpcalc.export import load_exported
from tpcalc.storage import save_potential
from tpcalc.tables import format_table


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("cli")
    save_potential(random_potential("cg"), path / "cg.safetensors")
    save_potential(random_potential("shared"), path / "shared.safetensors")
    ase.io.write(path / "ethanol.xyz", ethanol())
    return path


@pytest.fixture
def tpcalc(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)

    def call(*arguments):
        code = main([str(a) for a in arguments])
        output = capsys.readouterr()
        return code, output.out, output.err

    return call


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb, capsys):
    with pytest.raises(SystemExit) as stop:
        main([verb, "--help"])
    assert stop.value.code == 0
    assert VERBS[verb] in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_benchmark_has_help(kind, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["bench", kind, "--help"])
    assert stop.value.code == 0
    assert "--json" in capsys.readouterr().out


def test_run_as_a_module_prints_no_traceback():
    run = subprocess.run(
        [sys.executable, "-m", "tpcalc", "mdd"], capture_output=True, text=True, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert run.returncode == 2
    assert run.stderr == "tpcalc: unknown verb 'mdd'; did you mean 'md'?\n"


def test_import_is_light():
    """`import tpcalc` pays for neither torch nor ASE."""
    code = "import sys, tpcalc; print('torch' in sys.modules, 'ase' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["False", "False"]


def test_variants(tpcalc):
    code, out, _ = tpcalc("variants", "--json")
    assert code == 0
    rows = json.loads(out)["variants"]
    assert {"cg/reference", "shared/edge_matrix", "gaunt/grid"} <= {r["variant"] for r in rows}
    code, out, _ = tpcalc("variants", "shared")
    assert "shared/reference" in out
    assert "cg/reference" not in out


def test_md(tpcalc, folder):
    arguments = ["md", "cg.safetensors", "ethanol.xyz", "--steps", 12, "--variant", "cg/sparse"]
    code, out, _ = tpcalc(*arguments, "--log", "log.csv", "--trajectory", "t.xyz")
    assert code == 0
    for word in ("cg/sparse (CgSparse)", "float32", "ms/step", "ns/day", "drift"):
        assert word in out
    assert len((folder / "log.csv").read_text().splitlines()) == 4
    code, out, err = tpcalc(*arguments, "--log", "log.csv")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    code, out, _ = tpcalc(*arguments, "--ensemble", "nvt", "--json")
    summary = json.loads(out)
    assert summary["steps"] == 12
    assert "nve_drift_meV_atom_ps" not in summary


def test_relax(tpcalc):
    code, out, err = tpcalc("relax", "cg.safetensors", "ethanol.xyz", "--steps", 2)
    assert code == 1
    assert "C2H6O" in out
    assert err == "tpcalc relax: 1 of 1 structures did not converge\n"
    code, out, _ = tpcalc("relax", "cg.safetensors", "ethanol.xyz", "--steps", 2, "--json")
    assert code == 1
    assert json.loads(out)["rows"][0]["steps"] == 2
    code, _, _ = tpcalc("relax", "cg.safetensors", "ethanol.xyz", "--fmax", 100, "-o", "r.xyz")
    assert code == 0
    arguments = ["relax", "cg.safetensors", "ethanol.xyz", "--fmax", 100, "-o", "r.xyz"]
    assert tpcalc(*arguments)[0] == 2
    assert tpcalc(*arguments, "--resume")[0] == 0


def test_export(tpcalc, folder):
    code, out, _ = tpcalc("export", "cg.safetensors", "-o", "cg.pt", "--variant", "cg/sparse")
    assert code == 0
    assert "pair_coeff * * cg.pt H C O" in out
    assert load_exported(folder / "cg.pt")[1]["variant"] == "cg/sparse"


def test_verify(tpcalc):
    code, out, _ = tpcalc(
        "verify", "shared.safetensors", "--dtypes", "float64", "--variants", "shared/edge_matrix"
    )
    assert code == 0
    assert "all within the limits" in out


def test_bench_md_and_relax(tpcalc, folder):
    arguments = ["--system", "ethanol.xyz", "--steps", 12, "--threads", 1]
    potentials = ["cg.safetensors", "shared.safetensors"]
    variants = ["--variants", "cg/reference", "cg/sparse", "shared/edge_matrix"]
    code, out, _ = tpcalc("bench", "md", *potentials, *arguments, *variants, "-o", "b.json")
    assert code == 0
    assert out.strip().splitlines()[-1].startswith("Use ")
    result = json.loads((folder / "b.json").read_text())
    rows = result["tables"]["md"]
    assert [r["variant"] for r in rows] == ["cg/reference", "cg/sparse", "shared/edge_matrix"]
    assert rows[1]["variant_class"] == "CgSparse"
    for row in rows:
        assert row["dF64_eV_A"] < 1e-9
        assert row["steps"] == 12
        assert row["threads"] == 1
        assert row["first_call_ms"] > 0
    code, out, _ = tpcalc("bench", "relax", *potentials, *arguments, *variants, "--json")
    assert code == 0
    rows = json.loads(out)["tables"]["relax"]
    assert rows[0]["energy_eV"] == pytest.approx(rows[1]["energy_eV"], abs=1e-3)


def test_bench_md_scaling(tpcalc):
    """Every variant with every number of threads; torch has its own again afterwards."""
    before = torch.get_num_threads()
    code, out, _ = tpcalc(
        "bench", "md", "cg.safetensors", "--system", "ethanol.xyz", "--steps", 6, "--variants",
        "cg/reference", "cg/sparse", "--scaling", "1,2", "--json",
    )  # fmt: skip
    assert code == 0
    result = json.loads(out)
    rows = result["tables"]["md"]
    assert [(r["variant"], r["threads"]) for r in rows] == [
        ("cg/reference", 1), ("cg/reference", 2), ("cg/sparse", 1), ("cg/sparse", 2),
    ]  # fmt: skip
    assert " on 1 threads" in result["sentence"] or " on 2 threads" in result["sentence"]
    assert torch.get_num_threads() == before
    assert 0.3 < result["core_scaling"]["multiply"] < 2.5
    assert 0.3 < result["core_scaling"]["read"] < 2.5


def test_demo(tpcalc, tmp_path, monkeypatch):
    files = {}
    for function in ("cg", "gaunt"):
        potential = random_potential(function, species=["H", "C", "N", "O"], shifts={})
        files[f"3bpa-{function}"] = save_potential(potential, tmp_path / f"{function}.safetensors")
    monkeypatch.setattr("tpcalc.bench.demo.demo_potentials", lambda: files)
    code, out, _ = tpcalc("bench", "demo", "--steps", 6, "--relax-steps", 2)
    assert code == 0
    assert "27 atoms" in out
    assert out.count("gaunt/grid") >= 2
    assert out.strip().splitlines()[-1].startswith("Use 3bpa-")


def test_bench_profile(tpcalc, folder):
    pytest.importorskip("matplotlib")
    arguments = ["cg.safetensors", "--system", "ethanol.xyz", "--variant", "cg/sparse"]
    code, out, _ = tpcalc("bench", "profile", *arguments, "-o", "p.svg")
    assert code == 0
    for part in ("neighbour list", "network forward", "network backward", "matrix products", "█"):
        assert part in out
    assert "1 thread(s)" in out
    assert "elementwise and sums" in (folder / "p.svg").read_text()  # text stays text
    code, out, _ = tpcalc("bench", "profile", *arguments, "--json")
    result = json.loads(out)
    for rows in (result["parts"], result["kinds"]):
        assert sum(row["share"] for row in rows) == pytest.approx(100)
        assert sum(row["ms"] for row in rows) == pytest.approx(result["total_ms"])


@pytest.mark.parametrize(
    ("operator", "kind"),
    [
        ("tpcalc::conv_radial_bwd", "convolution"), ("tpcalc::radial_table", "radial functions"),
        ("tpcalc::poly_bwd", "symmetric product"), ("aten::mm", "matrix products"),
        ("aten::mean", "elementwise and sums"), ("aten::mul", "elementwise and sums"),
        ("aten::t", "views"), ("aten::tanh", "elementwise and sums"),
        ("aten::topk", "elementwise and sums"), ("aten::copy_", "memory and copies"),
        ("aten::index_add_", "gather and sum"), ("autograd::engine", "autograd and interpreter"),
    ],
)  # fmt: skip
def test_kinds_of_work(operator, kind):
    assert kind_of(operator) == kind


def test_bench_html(tpcalc, folder):
    pytest.importorskip("matplotlib")
    code, _, _ = tpcalc(
        "bench", "md", "cg.safetensors", "--system", "ethanol.xyz", "--steps", 6, "--variants",
        "cg/sparse", "--html", "b.html",
    )  # fmt: skip
    assert code == 0
    page = (folder / "b.html").read_text()
    assert "cg/sparse" in page
    assert "<svg" in page


BAD = [
    (["bench", "profile", "cg.safetensors", "-o", "p.txt"], "ends in none of .png"),
    (["md", "none.safetensors", "ethanol.xyz"], "no potential at none.safetensors"),
    (["md", "cg.safetensors", "none.xyz"], "no structure at none.xyz"),
    (["md", "cg.safetensors", "cg.safetensors"], "cannot be read"),
    (["md", "cg.safetensors", "ethanol.xyz", "--ensemble", "npt"], "unknown ensemble 'npt'"),
    (["md", "cg.safetensors", "ethanol.xyz", "--variant", "cg/spare"], "did you mean 'cg/sparse'"),
    (["md", "cg.safetensors", "ethanol.xyz", "--variant", "gaunt/grid"], "another function"),
    (["md", "cg.safetensors", "ethanol.xyz", "--threads", "0"], "--threads is 0"),
    (["md", "cg.safetensors", "ethanol.xyz", "--allocator", "jemaloc"], "unknown allocator"),
    (["md", "cg.safetensors", "ethanol.xyz", "--mode", "eagr"], "did you mean 'eager'"),
    (["relax", "cg.safetensors", "ethanol.xyz", "--optimizer", "bfgs"], "did you mean 'lbfgs'"),
    (["relax", "cg.safetensors", "ethanol.xyz", "--resume"], "--resume needs --out"),
    (["export", "cg.safetensors", "-o", "cg.txt"], "must end in .pt"),
    (["variants", "guant"], "did you mean 'gaunt'"),
    (["bench", "nd"], "unknown kind of benchmark 'nd'; did you mean 'md'"),
    (["bench", "md", "cg.safetensors", "--system", "watr"], "did you mean 'water'"),
    (["bench", "md", "cg.safetensors", "--scaling", "1,x"], "--scaling '1,x' is not a comma list"),
    (["bench", "md", "cg.safetensors", "--system", "water:0"], "not a whole number >= 1"),
    (["bench", "md", "cg.safetensors", "cg.safetensors"], "have one name"),
    (["bench", "md", "cg.safetensors", "--variants", "gaunt/grid"], "none of gaunt/grid computes"),
]


@pytest.mark.parametrize(("arguments", "words"), BAD, ids=lambda x: x if isinstance(x, str) else "")
def test_bad_input_is_one_line_and_exit_code_2(tpcalc, arguments, words):
    code, out, err = tpcalc(*arguments)
    assert code == 2
    assert words in err
    assert err.count("\n") == 1
    assert out == ""


def row(potential, variant, ms, wrong=0.0):
    return {
        "potential": potential, "variant": variant, "ms_per_step": ms, "ns_per_day": 43.2 / ms,
        "dF_eV_A": 1e-6, "dF64_eV_A": wrong, "dtype": "float32",
    }  # fmt: skip


def test_sentence_weighs_speed_against_accuracy_and_leaves_out_wrong_kernels():
    rows = [row("a", "cg/reference", 10.0), row("a", "cg/fast", 2.0), row("b", "gaunt/grid", 1.8)]
    result = {"tables": {"md": rows}, "accuracy": {"a": {"300K": 20.0}, "b": {"300K": 60.0}}}
    text = sentence(result)
    assert text.startswith("Use a with cg/fast here: 2.000 ms/step, 21.6 ns/day, 5.0x faster")
    assert "b with gaunt/grid is 1.11x as fast, force error 60 meV/Å (300K)" in text
    rows[1]["dF64_eV_A"] = 1e-3
    text = sentence(result)
    assert "cg/fast here" not in text
    assert "Do not use cg/fast" in text


def test_speed_up_is_measured_against_the_reference_only():
    part = {"rows": [row("", "cg/sparse", 4.0)], "missing": {}, "settings": {}}
    assert collect({"a": {"md": part}}, {})["tables"]["md"][0]["speedup"] is None
    part["rows"].insert(0, row("", "cg/reference", 8.0))
    assert collect({"a": {"md": part}}, {})["tables"]["md"][1]["speedup"] == 2.0


def test_force_errors_of_a_manifest():
    table = {"valid": {"all": {"forces_rmse": 9.0}}, "test": {"all": {"forces_rmse": 11.0}}}
    assert list(force_errors({"accuracy": table}).items()) == [("test", 11.0), ("valid", 9.0)]
    assert force_errors({}) == {}


def test_table():
    rows = [{"a": "x", "b": 1.234, "c": None}, {"a": "long", "b": 10}]
    lines = format_table(rows, {"a": "name", "b": "value .1f", "c": "gone"}).splitlines()
    assert lines[0].split() == ["name", "value", "gone"]
    assert lines[2].split() == ["x", "1.2", "-"]
    assert lines[3].split() == ["long", "10.0", "-"]
