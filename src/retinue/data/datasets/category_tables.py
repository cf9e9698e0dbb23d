"""Reads the category tables in the folder ``tables``: one line a category, tabs between columns."""

from collections.abc import Callable
from importlib import resources
from typing import Any

__all__ = ["read_table"]

_PARSERS: dict[str, Callable[[str], Any]] = {
    "id": int,
    "trainId": int,
    "isthing": int,
    "image_count": int,
    "color": lambda text: [int(number) for number in text.split()],
    "synonyms": lambda text: text.split(","),
}


def read_table(name: str) -> list[dict[str, Any]]:
    """Return the rows of ``tables/<name>.tsv`` as dicts; the first line names the columns."""
    path = resources.files("retinue.data.datasets") / "tables" / f"{name}.tsv"
    header, *lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    columns = header.split("\t")
    return [
        {
            column: _PARSERS.get(column, str)(text)
            for column, text in zip(columns, line.split("\t"), strict=True)
        }
        for line in lines
    ]
