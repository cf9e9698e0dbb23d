"""Tables as Markdown text, for the log."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

__all__ = ["format_table"]


def format_table(
    rows: Iterable[Sequence[Any]],
    headers: Sequence[str],
    *,
    align: Literal["left", "center"] = "left",
    float_format: str = ".3f",
) -> str:
    """Lay out rows below headers; floats are rounded, None and missing cells stay empty.

    >>> print(format_table([["person", 52.4], ["car", 40.12345]], ["category", "AP"]))
    | category   | AP     |
    |:-----------|:-------|
    | person     | 52.400 |
    | car        | 40.123 |
    """
    cells = [[_text(cell, float_format) for cell in row] for row in rows]
    cells = [row + [""] * (len(headers) - len(row)) for row in cells]
    widths = [
        max([len(head) + 2, *(len(row[i]) for row in cells)]) for i, head in enumerate(headers)
    ]
    mark = "^" if align == "center" else "<"
    rule = [":" + "-" * width + (":" if align == "center" else "-") for width in widths]

    def line(row: Sequence[str]) -> str:
        padded = (f" {cell:{mark}{width}} " for cell, width in zip(row, widths, strict=True))
        return "|" + "|".join(padded) + "|"

    return "\n".join([line(headers), "|" + "|".join(rule) + "|", *map(line, cells)])


def _text(cell: Any, float_format: str) -> str:
    if cell is None:
        return ""
    return format(cell, float_format) if isinstance(cell, float) else str(cell)
