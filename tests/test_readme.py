"""What the README shows is true: its table, its example, its commands."""

import re
import shlex
from pathlib import Path

from tpcalc.cli import VERBS
from tpcalc.tensor_products import MANY_BODY, VARIANTS
from tpcalc.variants import markdown_table

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
MODEL = ROOT / "models" / "3bpa-cg" / "potential.safetensors"


def test_table_of_variants():
    table = README.partition("<!-- variants:")[2].partition("-->\n")[2]
    table = table.partition("<!-- end of variants -->")[0].strip()
    assert table == markdown_table(), "run `make readme`"
    assert re.findall(r"^\| `([^`]+)`", table, re.M) == [*VARIANTS, *MANY_BODY]


def test_commands_exist():
    for line in re.findall(r"^tpcalc (.*)$", README, re.M):
        assert shlex.split(line, comments=True)[0] in VERBS


def test_files_exist():
    for name in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / name).exists(), name


def test_example(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    code = README.partition("<!-- example")[2].partition("```python\n")[2].partition("```")[0]
    assert len(code.strip().splitlines()) <= 14
    exec(compile(code, "README.md", "exec"), {})
    assert "TPCalculator(nequip cg" in capsys.readouterr().out


def test_ten_lines(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    path = ROOT / "examples" / "3bpa_md.py"
    code = path.read_text().replace("steps=500", "steps=6")
    assert "steps=6" in code
    exec(compile(code, str(path), "exec"), {})
    assert capsys.readouterr().out.count("ns/day") >= 3
