"""Replacements in a text by the positions that its syntax tree gives."""

from __future__ import annotations

import ast

__all__ = ["Edits"]


class Edits:
    """Collects replacements and makes them all at once.

    Positions are those of ``ast``: lines from 1, columns in bytes of UTF-8 from 0.
    """

    def __init__(self, text: str) -> None:
        self._bytes = text.encode()
        self._starts = [0]
        for line in self._bytes.splitlines(keepends=True):
            self._starts.append(self._starts[-1] + len(line))
        self._edits: dict[tuple[int, int], bytes] = {}

    def __bool__(self) -> bool:
        return bool(self._edits)

    def position(self, line: int, column: int) -> int:
        """Return the byte that a position is."""
        return self._starts[line - 1] + column

    def span(self, node: ast.stmt | ast.expr) -> tuple[int, int]:
        """Return the bytes where a node starts and ends."""
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        start = self.position(node.lineno, node.col_offset)
        return start, self.position(node.end_lineno, node.end_col_offset)

    def text_of(self, node: ast.stmt | ast.expr) -> str:
        """Return how a node is written."""
        start, end = self.span(node)
        return self._bytes[start:end].decode(errors="replace")

    def line_around(self, node: ast.stmt) -> tuple[str, str]:
        """Return what stands before and after a node on its first and last line."""
        start, end = self.span(node)
        assert node.end_lineno is not None
        before = self._bytes[self._starts[node.lineno - 1] : start]
        after = self._bytes[end : self._starts[node.end_lineno]]
        return before.decode(), after.decode()

    def replace(self, start: int, end: int, text: str) -> None:
        """Replace the bytes from ``start`` to ``end``."""
        self._edits[start, end] = text.encode()

    def result(self) -> str:
        """Return the text with all replacements made."""
        out = self._bytes
        for (start, end), new in sorted(self._edits.items(), reverse=True):
            out = out[:start] + new + out[end:]
        return out.decode()
