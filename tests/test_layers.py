"""Who may import whom: DESIGN.md §7, downwards only; and no file does everything."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "tpcalc"

# what each part may import of the package; errors and `tpcalc` itself (the version) always.
# Own folder always. Lower parts stand first.
CORE = {"o3", "kernels", "devices", "kept_species"}
PRODUCTS = CORE | {"tensor_products", "halo"}
NETWORK = PRODUCTS | {"nn", "architectures"}
MODEL = NETWORK | {"potential", "storage"}
EVALUATE = {"graph", "evaluator", "splined_evaluator"}
RUN = MODEL | EVALUATE | {"autotune", "calculator", "structures", "progress", "export"}
ALLOWED = {
    "errors": set(),
    "devices": set(),
    "kept_species": set(),
    "o3": set(),
    "kernels": {"o3"},
    "halo": set(),
    "graph": {"kernels"},
    "arguments": {"calculator", "kernels"},
    "progress": set(),
    "tables": set(),
    "structures": set(),
    "rdf": set(),
    "tensor_products": CORE,
    "nn": PRODUCTS,
    "architectures": PRODUCTS | {"nn"},
    "potential": NETWORK,
    "storage": NETWORK | {"potential"},
    "export": MODEL,
    "autotune": {"tensor_products"},
    "evaluator": MODEL | {"graph"},
    "splined_evaluator": MODEL | {"evaluator"},
    "calculator": MODEL | EVALUATE | {"autotune", "export", "kernels"},
    "testing": RUN,
    "md": RUN,
    "relax": RUN,
    "variants": {"tensor_products"},
    "verify": RUN,
    "analysis": RUN,
    "train": RUN | {"verify"},
    "importers": RUN | {"verify"},
    "bench": RUN
    | {"analysis", "md", "relax", "tables", "verify", "train", "arguments", "importers", "lammps"},
    "lammps": RUN | {"md", "tables"},
    "cli": None,  # everything
    "__main__": None,
}
USES_ASE = {
    "structures", "evaluator", "splined_evaluator", "calculator", "md", "relax", "verify", "bench",
    "train", "rdf", "testing", "importers", "lammps", "analysis",
}  # fmt: skip


def files():
    return sorted(p for p in PACKAGE.rglob("*.py") if p.parent != PACKAGE or p.stem != "__init__")


def part(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imports(path: Path) -> set[str]:
    """Dotted names of all imports, those inside of functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_downwards(path):
    own = part(path)
    assert own in ALLOWED, f"{own} has no line in ALLOWED"
    allowed = ALLOWED[own]
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "ase":
            assert own in USES_ASE, f"{path} imports ase"
        if parts[0] != "tpcalc" or allowed is None:
            continue
        used = parts[1] if len(parts) > 1 else "__version__"
        public = {"errors", own, "__version__", "TPCalculator", "load_potential"}
        assert used in allowed | public, f"{path} imports {name}"


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_only_export_mentions_the_api_of_torchscript(path):
    if part(path) == "export":
        return
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Attribute) or not isinstance(node.value, ast.Attribute):
            continue
        if ast.unparse(node.value) == "torch.jit":  # annotations for the compiler are not its API
            assert node.attr in {"unused", "ignore", "export", "is_scripting", "Final"}, path


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_and_functions_stay_readable(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 330, f"{path} has {len(text.splitlines())} lines"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            body = node.end_lineno - node.lineno + 1
            docstring = ast.get_docstring(node) or ""
            length = body - len(docstring.splitlines())
            assert length <= 60, f"{path}: {node.name} has {length} lines"


def test_no_file_of_everything():
    names = {p.stem for p in files()}
    assert not names & {"utils", "helpers", "misc", "common"}
