"""The table of variants as data: for the CLI, the README and its test."""

from __future__ import annotations

import inspect

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
                "status": "ok",
                "summary": summary(cls),
            }
        )
    return rows


def summary(cls: type) -> str:
    """First sentence of a class's docstring, on one line."""
    text = " ".join((inspect.getdoc(cls) or "").split("\n\n")[0].split())
    return text.split(". ")[0].rstrip(".")
