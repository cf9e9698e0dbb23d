"""A project's imports changed from detectron2, fvcore, iopath and pycocotools to retinue.

Only import statements, names bound by a plain ``import detectron2...`` and strings that hold a
dotted name change; the rest of each file stays byte for byte. What retinue has not is left alone.
"""

from __future__ import annotations

import ast
import os
import re
import tokenize
from collections.abc import Sequence
from pathlib import Path

from retinue.compat.migration.edits import Edits
from retinue.compat.migration.project import own_packages, python_files, read_project, read_tree
from retinue.compat.migration.source import used_names
from retinue.compat.migration.verdict import COVERED, is_served, judge, module_home
from retinue.utils.file_io import atomic_write

__all__ = ["rewrite_project", "rewritten"]

_WIDTH = 100
_LOGGERS = ("getLogger", "setup_logger")


def rewrite_project(path: str | os.PathLike[str]) -> tuple[list[str], list[str]]:
    """Change a project's imports in place, each file at once or not at all.

    Returns:
        The files that changed, and what is left to change by hand, as ``"file:line  what"``.

    Raises:
        InputError: If there is no such file or folder.
    """
    read_project(path)  # which checks the path
    root = Path(path)
    own = own_packages(root)
    base = root if root.is_dir() else root.parent
    changed: list[str] = []
    left: list[str] = []
    for file in python_files(root):
        name = file.relative_to(base).as_posix()
        try:
            text, _ = read_tree(file)
        except SyntaxError:
            continue
        new, notes = rewritten(text, own)
        left += [f"{name}:{note}" for note in notes]
        if new != text:
            _write(file, new)
            changed.append(name)
    return changed, left


def _write(file: Path, text: str) -> None:
    with open(file, "rb") as f:
        encoding, _ = tokenize.detect_encoding(f.readline)
    target = file.resolve()
    mode = target.stat().st_mode
    with atomic_write(target, "wb") as out:
        out.write(text.encode(encoding))
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
        if isinstance(node, ast.Name) and node.id == old:
            edits.replace(*edits.span(node), new)


def _change_strings(tree: ast.Module, edits: Edits, own: frozenset[str]) -> None:
    """Strings with a dotted name, such as patched ones, and the names of loggers."""
    loggers = {
        id(argument)
        for call in ast.walk(tree)
        if isinstance(call, ast.Call)
        and getattr(call.func, "attr", getattr(call.func, "id", "")) in _LOGGERS
        for argument in [*call.args, *(k.value for k in call.keywords)]
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
            continue
        new = _new_string(node.value, id(node) in loggers, own)
        written = edits.text_of(node)
        if new and written[1:-1] == node.value and written[0] in "\"'":
            edits.replace(*edits.span(node), written[0] + new + written[0])


def _new_string(value: str, is_logger: bool, own: frozenset[str]) -> str | None:
    top, dot, rest = value.partition(".")
    if top != "detectron2" or top in own:
        return None
    if is_logger:
        return "retinue" + dot + rest
    if not dot or not re.fullmatch(r"[\w.]+", rest):
        return None
    verdict = judge(top, tuple(rest.split(".")))
    return verdict.home.replace(":", ".") if verdict.state == COVERED and verdict.home else None


def _left(tree: ast.Module, own: frozenset[str], before: ast.Module) -> list[str]:
    """Say which names still come from elsewhere, and which only the hook adds to a module."""
    notes = []
    for use in used_names(tree):
        if use.kind == "import" and is_served(use.module, own):
            note = judge(use.module, use.path).note
            notes.append(f"{use.line}  {use.name}: {note or 'left as it is'}")
    for use in used_names(before):
        if use.kind == "attribute" and is_served(use.module, own):
            verdict = judge(use.module, use.path)
            expected = module_home(use.module)
            if expected and verdict.home and not _is_below(verdict.home, expected):
                notes.append(f"{use.line}  {use.name} is {verdict.home.replace(':', '.')}")
            elif use.path[-1:] == ("__version__",):
                notes.append(f"{use.line}  {use.name} is the version of retinue now")
    return notes


def _is_below(home: str, module: str) -> bool:
    return (home.replace(":", ".") + ".").startswith(module + ".")
