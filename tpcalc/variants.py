"""The table of variants as data: for the CLI, the README and its test."""

from __future__ import annotations

import inspect
from pathlib import Path

from tpcalc.errors import MissingDependency, check_name
from tpcalc.tensor_products import (
    MANY_BODY,
    VARIANTS,
    functions,
    many_body_class,
    variant_class,
)

PLACES = ("convolution", "interaction", "many-body")


def describe_places(function: str | None = None) -> list[dict]:
    """One row a function: its algorithms in each of `PLACES` of a network.

    Raises:
        InputError: no such function.
    """
    rows = []
    for name in _functions(function):
        row = {"function": name, **{place: [] for place in PLACES}}
        for variant in VARIANTS:
            own, algorithm = variant.split("/")
            if own == name:
                for place in _places(variant):
                    row[place].append(algorithm)
        row["many-body"] = [v.split("/")[1] for v in MANY_BODY if v.split("/")[0] == name]
        rows.append(row)
    return rows


def _places(variant: str) -> tuple[str, ...]:
    """Places of a line of `VARIANTS`; the class says them, as far as it can be imported."""
    try:
        return variant_class(variant).places
    except MissingDependency:
        return ()


def _functions(function: str | None) -> list[str]:
    return functions() if function is None else [check_name("function", function, functions())]


def describe_variants(function: str | None = None) -> list[dict]:
    """One row per variant, those of many-body products last: name, class, what it promises,
    whether it can run here.

    Raises:
        InputError: no such function.
    """
    shown = _functions(function)
    rows = []
    for table, class_of in ((VARIANTS, variant_class), (MANY_BODY, many_body_class)):
        for name in table:
            if name.split("/")[0] not in shown:
                continue
            try:
                cls = class_of(name)
            except MissingDependency as error:
                rows.append({"variant": name, "status": str(error)})
                continue
            rows.append(
                {
                    "variant": name,
                    "places": " ".join(cls.places),
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
    """Places and variants as the tables in the README; a test holds them equal."""
    lines = [f"| function | {' | '.join(PLACES)} |", "|---|---|---|---|"]
    for row in describe_places():
        cells = [", ".join(row[place]) or "-" for place in PLACES]
        lines.append(f"| {row['function']} | {' | '.join(cells)} |")
    lines += ["", "| variant | places | exact | what it is |", "|---|---|---|---|"]
    for row in describe_variants():
        text = row.get("summary", row["status"]).replace("|", "\\|")
        places = row.get("places", "").replace(" ", ", ")
        lines.append(f"| `{row['variant']}` | {places} | {row.get('exact', '')} | {text} |")
    return "\n".join(lines)


def write_readme(path: str = "README.md") -> None:
    """Put the table between its two comments in the README (`make readme`)."""
    text = Path(path).read_text(encoding="utf-8")
    head, _, rest = text.partition("<!-- variants:")
    comment = rest.partition("\n")[0]
    tail = rest.partition("<!-- end of variants -->")[2]
    table = f"<!-- variants:{comment}\n{markdown_table()}\n<!-- end of variants -->"
    Path(path).write_text(head + table + tail, encoding="utf-8")
