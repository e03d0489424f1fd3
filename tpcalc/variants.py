"""The table of variants as data: for the CLI, the README and its test."""

from __future__ import annotations

import inspect
from pathlib import Path

from tpcalc.errors import MissingDependency, check_name
from tpcalc.tensor_products import VARIANTS, variant_class


def describe_variants(function: str | None = None) -> list[dict]:
    """One row per variant: name, class, what it promises, whether it can run here.

    Raises:
        InputError: no such function.
    """
    functions = list(dict.fromkeys(name.split("/")[0] for name in VARIANTS))
    if function is not None:
        check_name("function", function, functions)
    rows = []
    for name in VARIANTS:
        if function not in (None, name.split("/")[0]):
            continue
        try:
            cls = variant_class(name)
        except MissingDependency as error:
            rows.append({"variant": name, "status": str(error)})
            continue
        rows.append(
            {
                "variant": name,
                "class": cls.__name__,
                "exact": "yes" if cls.exact else "no",
                "parity": cls.parity,
                "devices": " ".join(cls.devices),
                "status": "ok" if cls.available() else "not built",
                "summary": summary(cls),
            }
        )
    return rows


def summary(cls: type) -> str:
    """First sentence of a class's docstring, on one line."""
    text = " ".join((inspect.getdoc(cls) or "").split("\n\n")[0].split())
    return text.split(". ")[0].rstrip(".")


def markdown_table() -> str:
    """The variants as the table in the README; a test holds them equal."""
    lines = ["| variant | exact | what it is |", "|---|---|---|"]
    for row in describe_variants():
        name = f"`{row['variant']}`"
        text = row.get("summary", row["status"]).replace("|", "\\|")
        lines.append(f"| {name} | {row.get('exact', '')} | {text} |")
    return "\n".join(lines)


def write_readme(path: str = "README.md") -> None:
    """Put the table between its two comments in the README (`make readme`)."""
    text = Path(path).read_text(encoding="utf-8")
    head, _, rest = text.partition("<!-- variants:")
    comment = rest.partition("\n")[0]
    tail = rest.partition("<!-- end of variants -->")[2]
    table = f"<!-- variants:{comment}\n{markdown_table()}\n<!-- end of variants -->"
    Path(path).write_text(head + table + tail, encoding="utf-8")
