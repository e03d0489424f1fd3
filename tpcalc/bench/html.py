"""One self-contained page: tables, bars of ms/step, and how to run it again."""

from __future__ import annotations

import html
import io
import sys
from pathlib import Path

from tpcalc.bench.report import COLUMNS, TITLES, settings_text
from tpcalc.errors import InputError, MissingDependency
from tpcalc.tables import table_cells

STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2em auto;max-width:70em;padding:0 1em}"
    "table{border-collapse:collapse;margin:1em 0}td,th{padding:.2em .8em;text-align:right}"
    "td:first-child,th:first-child,td:nth-child(2),th:nth-child(2){text-align:left}"
    "th{border-bottom:1px solid #888}.scroll{overflow-x:auto}"
)


def write_html(result: dict, path: Path) -> None:
    """Write the page.

    Raises:
        MissingDependency: matplotlib is absent.
        InputError: no folder to write into.
    """
    if not path.parent.is_dir():
        raise InputError(f"no folder {path.parent} to write {path.name} into")
    parts = [f"<p><b>{html.escape(result['sentence'])}</b></p>"]
    for kind, rows in result["tables"].items():
        parts.append(f"<h2>{TITLES[kind]}</h2><p>{html.escape(settings_text(kind, result))}</p>")
        parts.append(_table(rows, COLUMNS[kind]))
        parts.append(_bars(rows))
    machine = ", ".join(f"{k} {v}" for k, v in result["machine"].items())
    parts.append(f"<p>{html.escape(machine)}</p><pre>{html.escape(' '.join(sys.argv))}</pre>")
    path.write_text(
        "<!doctype html><html lang=en><meta charset=utf-8><title>tpcalc bench</title>"
        f"<style>{STYLE}</style><h1>tpcalc bench</h1>{''.join(parts)}</html>\n",
        encoding="utf-8",
    )


def _table(rows: list[dict], columns: dict[str, str]) -> str:
    heads, cells = table_cells(rows, columns)
    head = "".join(f"<th>{html.escape(h)}</th>" for h in heads)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in row) + "</tr>" for row in zip(*cells)
    )
    return f"<div class=scroll><table><tr>{head}</tr>{body}</table></div>"


def _bars(rows: list[dict]) -> str:
    """Bars of ms/step with p95 as a whisker, as SVG text."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise MissingDependency("--html needs matplotlib: pip install 'tpcalc[report]'") from error
    figure = Figure(figsize=(9, 0.35 * len(rows) + 1), layout="constrained")
    axes = figure.add_subplot()
    labels = [f"{r['potential']}  {r['variant']}" for r in rows]
    medians = [r["ms_per_step"] for r in rows]
    upper = [max(r["ms_per_step_p95"] - r["ms_per_step"], 0.0) for r in rows]
    colours = {p: f"C{n}" for n, p in enumerate(dict.fromkeys(r["potential"] for r in rows))}
    axes.barh(
        labels, medians, xerr=[[0.0] * len(rows), upper],
        color=[colours[r["potential"]] for r in rows],
    )  # fmt: skip
    axes.invert_yaxis()
    axes.set_xlabel("ms/step: median, whisker to the 95th percentile")
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg")
    return buffer.getvalue()[buffer.getvalue().index("<svg") :]
