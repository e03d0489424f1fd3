"""Plain text tables for a terminal."""

from __future__ import annotations


def format_table(rows: list[dict], columns: dict[str, str]) -> str:
    """Aligned columns with a rule under the head.

    Args:
        rows: dictionaries; a missing or None entry prints as "-".
        columns: key -> heading, with an optional number format after the last blank
            ("E/eV .3f"). Text is aligned left, numbers right.
    """
    heads, cells, right = [], [], []
    for key, heading in columns.items():
        title, _, spec = heading.rpartition(" ")
        if not title or not spec or spec[-1] not in "fegd":
            title, spec = heading, ""
        values = [row.get(key) for row in rows]
        column = ["-" if v is None else format(v, spec if _is_number(v) else "") for v in values]
        heads.append(title)
        cells.append(column)
        right.append(any(_is_number(v) for v in values))
    widths = [max(map(len, [head, *column])) for head, column in zip(heads, cells)]

    def line(parts) -> str:
        aligned = [p.rjust(w) if r else p.ljust(w) for p, w, r in zip(parts, widths, right)]
        return "  ".join(aligned).rstrip()

    return "\n".join([line(heads), "  ".join("-" * w for w in widths), *map(line, zip(*cells))])


def _is_number(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
