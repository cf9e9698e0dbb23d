"""The code of a Jupyter notebook as one text, and back.

Each cell starts with a line that marks it. Lines for IPython (``%``, ``!``) hide behind ``pass``,
cells that are no Python behind ``#``.
"""

from __future__ import annotations

import ast
import json
import re
from itertools import pairwise
from typing import Any

__all__ = ["ipython_lines", "joined_cells", "place_in", "unread_cells", "with_cells"]

_MARK = "# %% retinue cell "
_HIDDEN = "pass  # ipython: "
_UNREAD = "# unread: "
_IPYTHON = re.compile(r"^(\s*)(?=[%!?]|[\w., ]+=\s*[%!]|.*\?\s*$)")


def _load(content: bytes) -> Any:
    try:
        notebook = json.loads(content)
        if isinstance(notebook["cells"], list):
            return notebook
    except (ValueError, KeyError, TypeError) as error:
        raise SyntaxError(f"no notebook of version 4: {type(error).__name__} {error}") from error
    raise SyntaxError("no notebook of version 4: its cells are no list")


def _is_python(source: str) -> bool:
    try:
        ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def _shown(source: str) -> str:
    lines = source.splitlines(keepends=True)
    hidden = "".join(_IPYTHON.sub(rf"\1{_HIDDEN}", line) for line in lines)
    for text in (source, hidden):
        if _is_python(text):
            return text
    return "".join(_UNREAD + line for line in lines)


def joined_cells(content: bytes) -> str:
    """Return the code cells of a notebook file as one text.

    Raises:
        SyntaxError: If it is no notebook.
    """
    parts = []
    for number, cell in enumerate(_load(content)["cells"], start=1):
        if cell.get("cell_type") == "code":
            parts.append(f"{_MARK}{number}\n{_shown(''.join(cell['source']))}\n")
    return "".join(parts)


def place_in(text: str, line: int) -> tuple[int, int]:
    """Return the cell, counted from 1 with those of text, and the line in it.

    >>> place_in("# %% retinue cell 2\\nx\\n# %% retinue cell 5\\ny\\nz\\n", 5)
    (5, 2)
    """
    lines = text.splitlines()
    start = max((i for i, row in enumerate(lines[:line]) if row.startswith(_MARK)), default=-1)
    return int(lines[start].removeprefix(_MARK)) if start >= 0 else 0, line - 1 - start


def ipython_lines(text: str) -> list[tuple[int, str]]:
    """Return the lines for IPython, and those of cells that are not Python, with their numbers."""
    rows = enumerate(text.splitlines(), start=1)
    return [(n, row) for n, row in rows if _HIDDEN in row or row.startswith(_UNREAD)]


def unread_cells(text: str) -> list[int]:
    """Return the lines where cells start that are no Python and don't say so by ``%%``."""
    rows = text.splitlines()
    return [
        n
        for n, (before, row) in enumerate(pairwise(rows), start=2)
        if before.startswith(_MARK) and row.startswith(_UNREAD) and not row[10:].startswith("%%")
    ]


def _layout(content: str, notebook: Any) -> dict[str, Any]:
    """Return how the file's JSON is written."""
    for indent in (1, 2, 4, None):
        for ensure_ascii in (False, True):
            layout: dict[str, Any] = {"indent": indent, "ensure_ascii": ensure_ascii}
            if json.dumps(notebook, **layout) == content.rstrip("\n"):
                return layout
    raise SyntaxError("its JSON is not laid out as Jupyter does; save it there once")


def with_cells(content: bytes, text: str) -> bytes:
    """Return the notebook file with the code cells of ``text``, all else byte for byte.

    Raises:
        SyntaxError: If the file is not laid out as Jupyter lays it out.
    """
    notebook = _load(content)
    written = content.decode()
    layout = _layout(written, notebook)
    for part in text.split(_MARK)[1:]:
        number, _, shown = part.partition("\n")
        cell = notebook["cells"][int(number) - 1]
        shown = re.sub(rf"^(\s*){_HIDDEN}", r"\1", shown[:-1], flags=re.MULTILINE)
        source = re.sub(rf"^{_UNREAD}", "", shown, flags=re.MULTILINE)
        is_list = isinstance(cell["source"], list)
        cell["source"] = source.splitlines(keepends=True) if is_list else source
    end = written[len(written.rstrip("\n")) :]
    return (json.dumps(notebook, **layout) + end).encode()
