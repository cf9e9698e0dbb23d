"""A project's imports changed from detectron2, fvcore, iopath and pycocotools to retinue.

Only import statements, names bound by a plain ``import detectron2...`` and strings that hold a
dotted name, or a module's in a call such as ``find_spec("detectron2")``, change; the rest of each
file stays byte for byte. What retinue has not is left alone.
"""

from __future__ import annotations

import ast
import os
import re
import tokenize
from collections.abc import Sequence
from pathlib import Path

from retinue.compat.dropped import is_put_back
from retinue.compat.migration.dated import what_instead
from retinue.compat.migration.edits import Edits
from retinue.compat.migration.files import (
    carried_copies,
    existing,
    own_packages,
    python_files,
    read_tree,
)
from retinue.compat.migration.notebook import place_in, with_cells
from retinue.compat.migration.source import used_names
from retinue.compat.migration.verdict import COVERED, is_served, judge, module_home
from retinue.compat.served import COLLECTIONS, FALLBACKS, PACKAGES
from retinue.utils.errors import InputError
from retinue.utils.file_io import atomic_write

__all__ = ["rewrite_project", "rewritten"]

_WIDTH = 100
_SERVED = re.compile("|".join([*PACKAGES, *COLLECTIONS, *FALLBACKS]))
_LOGGERS = ("getLogger", "setup_logger")
_OF_MODULES = ("__import__", "find_spec", "import_module", "importorskip")
_OF_DISTRIBUTIONS = ("distribution", "get_distribution", "require", "version")


def rewrite_project(path: str | os.PathLike[str]) -> tuple[list[str], list[str]]:
    """Change a project's imports in place, in all of its files or in none.

    Notebooks are changed, too; a copy of detectron2 in the project stays as it is.

    Returns:
        The files that changed, and what is left to change by hand, as ``"file:line  what"``.

    Raises:
        InputError: If there is no such file or folder, or a file cannot be written.
    """
    root = existing(path)
    own = own_packages(root)
    base = root if root.is_dir() else root.parent
    new_files: list[tuple[Path, bytes]] = []
    left: list[str] = []
    for file in python_files(root):
        name = file.relative_to(base).as_posix()
        try:
            text, _ = read_tree(file)
        except (SyntaxError, OSError):
            continue  # said by the report
        if not _SERVED.search(text):
            continue
        new, notes = rewritten(text, own)
        left += [_placed(name, note, new if file.suffix == ".ipynb" else None) for note in notes]
        if new == text:
            continue
        try:
            ast.parse(new)
            new_files.append((file, _encoded(file, new)))
        except SyntaxError as error:
            left.append(f"{name}  left as it is: {error.msg}")
    left += [
        f"{folder.relative_to(root).as_posix()}/  a copy of detectron2, left as it is"
        for folder in (carried_copies(root) if root.is_dir() else [])
    ]
    _write_all(new_files)
    return [file.relative_to(base).as_posix() for file, _ in new_files], left


def _placed(name: str, note: str, cells: str | None) -> str:
    """Put a file's name before a note; of a notebook, the line is that of a cell."""
    line, _, what = note.partition("  ")
    if cells is not None:
        cell, number = place_in(cells, int(line))
        return f"{name} cell {cell}:{number}  {what}"
    return f"{name}:{note}"


def _encoded(file: Path, text: str) -> bytes:
    content = file.read_bytes()
    if file.suffix == ".ipynb":
        return with_cells(content, text)
    lines = iter(content.splitlines(keepends=True))
    encoding, _ = tokenize.detect_encoding(lambda: next(lines, b""))
    return text.encode(encoding)


def _write_all(new_files: Sequence[tuple[Path, bytes]]) -> None:
    """Write each file whole; where one can't be written, put the others back."""
    old: list[tuple[Path, bytes]] = []
    for file, content in new_files:
        before = file.read_bytes()
        try:
            _write(file, content)
        except OSError as error:
            for done, earlier in old:
                _write(done, earlier)
            raise InputError(
                f"retinue migrate: {str(file)!r} cannot be written ({error}); no file was changed"
            ) from error
        old.append((file, before))


def _write(file: Path, content: bytes) -> None:
    target = file.resolve()
    mode = target.stat().st_mode
    with atomic_write(target, "wb") as out:
        out.write(content)
    target.chmod(mode)


def rewritten(text: str, own: frozenset[str] = frozenset()) -> tuple[str, list[str]]:
    """Return a file's text with its imports changed, and what is left, as ``"line  what"``.

    Example:
        >>> rewritten("from fvcore.nn import smooth_l1_loss")[0]
        'from retinue.layers.losses import smooth_l1_loss'
    """
    tree = ast.parse(text)
    edits = Edits(text)
    bound: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            _change_import(node, edits, own, bound)
        elif (
            isinstance(node, ast.ImportFrom)
            and node.level == 0
            and is_served(node.module or "", own)
        ):
            _change_from(node, edits)
    if "detectron2" in bound:
        _rename(tree, edits, "detectron2", "retinue")
    _change_strings(tree, edits, own)
    result = edits.result() if edits else text
    return result, _left(ast.parse(result), own, tree)


def _change_import(node: ast.Import, edits: Edits, own: frozenset[str], bound: set[str]) -> None:
    """``import a.b as c``; a plain ``import detectron2.b`` also renames what it binds."""
    parts = []
    for alias in node.names:
        home = module_home(alias.name) if is_served(alias.name, own) else None
        is_plain = alias.asname is None
        if is_plain and not alias.name.startswith("detectron2"):
            home = None
        if home and is_plain:
            bound.add("detectron2")
        parts.append((home or alias.name) + (f" as {alias.asname}" if alias.asname else ""))
    if any(new.split()[0] != a.name for new, a in zip(parts, node.names, strict=True)):
        edits.replace(*edits.span(node), "import " + ", ".join(parts))


def _split(target: str) -> tuple[str, str]:
    """Return the module and the name to import from it: ``"a.b:c"`` or ``"a.b.c"``."""
    module, _, name = target.partition(":")
    if name:
        return module, name
    parent, _, last = module.rpartition(".")
    return parent, last


def _change_from(node: ast.ImportFrom, edits: Edits) -> None:
    assert node.module is not None
    groups: dict[str, list[tuple[str, str | None]]] = {}
    is_renamed = False
    for alias in node.names:
        verdict = judge(node.module, (alias.name,))
        if verdict.state != COVERED or not verdict.home:
            groups.setdefault(node.module, []).append((alias.name, alias.asname))
        elif alias.name == "*":
            groups.setdefault(verdict.home, []).append(("*", None))
        else:
            module, name = _split(verdict.home)
            is_renamed |= name != alias.name
            asname = alias.asname or (alias.name if name != alias.name else None)
            groups.setdefault(module, []).append((name, asname))
    if list(groups) == [node.module]:
        return
    if len(groups) == 1 and not is_renamed:  # only the module's name changes, comments stay
        start, _ = edits.span(node)
        written = edits.text_of(node)
        found = re.match(rf"from\s+({re.escape(node.module)})\b", written)
        if found:
            edits.replace(start + found.start(1), start + found.end(1), next(iter(groups)))
            return
    before, after = edits.line_around(node)
    is_alone = not before.strip() and (not after.strip() or after.lstrip().startswith("#"))
    statements = [_from(module, names, before, is_alone) for module, names in groups.items()]
    newline = "\r\n" if after.endswith("\r\n") else "\n"
    if is_alone:  # of several lines, whose comments go before them
        rows = edits.text_of(node).splitlines()
        statements = [row[row.index("#") :] for row in rows if "#" in row] + statements
    text = f"\n{before}".join(statements) if is_alone else "; ".join(statements)
    edits.replace(*edits.span(node), text.replace("\n", newline))


def _from(module: str, names: Sequence[tuple[str, str | None]], indent: str, is_alone: bool) -> str:
    items = [name + (f" as {asname}" if asname else "") for name, asname in names]
    line = f"from {module} import " + ", ".join(items)
    if not is_alone or len(indent) + len(line) <= _WIDTH:
        return line
    inner = "".join(f"{indent}    {item},\n" for item in items)
    return f"from {module} import (\n{inner}{indent})"


def _rename(tree: ast.Module, edits: Edits, old: str, new: str) -> None:
    for node in ast.walk(tree):
        # Before Python 3.12 the places of names in some f-strings are wrong.
        if isinstance(node, ast.Name) and node.id == old and edits.text_of(node) == old:
            edits.replace(*edits.span(node), new)


def _arguments_of(tree: ast.Module, functions: Sequence[str]) -> dict[int, ast.expr]:
    """Return the arguments of calls of functions that have one of these names, by identity."""
    return {
        id(argument): argument
        for call in ast.walk(tree)
        if isinstance(call, ast.Call)
        and getattr(call.func, "attr", getattr(call.func, "id", "")) in functions
        for argument in [*call.args, *(k.value for k in call.keywords)]
    }


def _change_strings(tree: ast.Module, edits: Edits, own: frozenset[str]) -> None:
    """Strings with a dotted name, such as patched ones, and the names of loggers."""
    names = _arguments_of(tree, _LOGGERS + _OF_MODULES)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
            continue
        value = node.value
        new = _new_string(value, id(node) in names, own) if value[:10] == "detectron2" else None
        if not new:
            continue
        written = edits.text_of(node)
        if written[1:-1] == value and written[0] in "\"'":
            edits.replace(*edits.span(node), written[0] + new + written[0])


def _new_string(value: str, is_name: bool, own: frozenset[str]) -> str | None:
    """Return what takes a string's place; a logger's name need not be one of retinue's."""
    top, dot, rest = value.partition(".")
    if top != "detectron2" or top in own or (dot and not re.fullmatch(r"[\w.]+", rest)):
        return None
    verdict = judge(top, tuple(rest.split("."))) if dot else None
    if verdict and verdict.state == COVERED and verdict.home:
        return verdict.home.replace(":", ".")
    return "retinue" + dot + rest if is_name else None


def _left(tree: ast.Module, own: frozenset[str], before: ast.Module) -> list[str]:
    """Say which names still come from elsewhere, and which only the hook adds to a module."""
    notes: list[tuple[int, str]] = []
    for use in used_names(tree):
        if use.kind == "import" and is_served(use.module, own):
            home = "" if use.path else module_home(use.module)
            note = judge(use.module, use.path).note
            note = note or f"left as it is{f'; {home} has its names' if home else ''}"
            notes.append((use.line, note if note.startswith(use.name) else f"{use.name}: {note}"))
        elif use.name.startswith("torch.ops.detectron2."):
            notes.append((use.line, f"{use.name} needs `import retinue.compat.native`"))
    for node in _arguments_of(tree, _OF_DISTRIBUTIONS).values():
        if isinstance(node, ast.Constant) and node.value == "detectron2":
            notes.append((node.lineno, "'detectron2', a distribution's name, is left as it is"))
    for use in used_names(before):
        if use.kind == "attribute" and is_served(use.module, own):
            verdict = judge(use.module, use.path)
            expected = module_home(use.module)
            if expected and verdict.home and not _is_below(verdict.home, expected):
                notes.append((use.line, f"{use.name} is {verdict.home.replace(':', '.')}"))
            elif use.path[-1:] == ("__version__",):
                notes.append((use.line, f"{use.name} is the version of retinue now"))
        elif use.kind != "text" and not is_served(use.module, own) and is_put_back(use.name):
            notes.append((use.line, f"{use.name}: {what_instead(use.name) or 'is no more'}"))
    return [f"{line}  {note}" for line, note in sorted(notes)]


def _is_below(home: str, module: str) -> bool:
    return (home.replace(":", ".") + ".").startswith(module + ".")
