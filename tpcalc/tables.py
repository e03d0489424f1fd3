"""Tables as text."""

from __future__ import annotations


def table_cells(rows: list[dict], columns: dict[str, str]) -> tuple[list[str], list[list[str]]]:
    """Headings, and the formatted cells of each column.

    Args:
        rows: dictionaries; a missing or None entry becomes "-".
        columns: key -> heading, with an optional number format after the last blank
            ("E/eV .3f").
    """
    heads, cells = [], []
    for key, heading in columns.items():
        title, _, spec = heading.rpartition(" ")
        if not title or spec[-1] not in "fegd":
            title, spec = heading, ""
        values = [row.get(key) for row in rows]
        heads.append(title)
        cells.append(
            ["-" if v is None else format(v, spec if _is_number(v) else "") for v in values]
        )
    return heads, cells


def format_table(rows: list[dict], columns: dict[str, str]) -> str:
    """Aligned columns with a rule under the head; numbers to the right, text to the left."""
    heads, cells = table_cells(rows, columns)
    right = [any(_is_number(row.get(key)) for row in rows) for key in columns]
    widths = [max(map(len, [head, *column])) for head, column in zip(heads, cells)]

    def line(parts) -> str:
        aligned = [p.rjust(w) if r else p.ljust(w) for p, w, r in zip(parts, widths, right)]
        return "  ".join(aligned).rstrip()

    return "\n".join([line(heads), "  ".join("-" * w for w in widths), *map(line, zip(*cells))])


def _is_number(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
