"""All files of a project, read for what they use; the report."""

from __future__ import annotations

import ast
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from retinue.compat.dropped import is_put_back
from retinue.compat.migration.dated import what_instead
from retinue.compat.migration.files import (
    carried_copies,
    existing,
    own_packages,
    project_files,
    python_files,
    read_tree,
)
from retinue.compat.migration.notebook import ipython_lines, place_in, unread_cells
from retinue.compat.migration.requirements import is_requirement_file, required
from retinue.compat.migration.source import Use, used_names
from retinue.compat.migration.verdict import CHANGE, COVERED, ELSEWHERE, is_served, judge
from retinue.compat.served import COLLECTIONS, COMPILED

__all__ = ["Finding", "ProjectReport", "read_project"]

_EXTENSIONS = ("CUDAExtension", "CppExtension")
_BUILD = (
    "a compiled extension: build it as the project says, or use retinue.layers where one of its"
    " functions does the same (roi_align, deform_conv, nms, rotated boxes)"
)
_BUILT = "nothing to build: it is served in plain PyTorch"
_GUARDED = "the program goes on without it, by an except of its own"
_COPY = (
    "a copy of detectron2, in whose place retinue is served; what was changed in the copy is not"
    " there, and names that were added to it are among those that need a change"
)


@dataclass(frozen=True)
class Finding:
    """One place, and what becomes of it.

    Attributes:
        file: relative to the project, with the cell of a notebook.
        line: counted from 1, in the cell of a notebook; 0 for the whole file.
        name: what is used.
        state: ``"covered"``, ``"needs a change"``, ``"from its own package"``.
        note: what to do, or what to know.
        home: where retinue has it.
    """

    file: str
    line: int
    name: str
    state: str
    note: str = ""
    home: str = ""


@dataclass(frozen=True)
class ProjectReport:
    """What a project uses of detectron2, fvcore, iopath and pycocotools."""

    path: str
    num_files: int
    findings: tuple[Finding, ...]

    def of(self, state: str) -> list[Finding]:
        """Return the findings of one state."""
        return [f for f in self.findings if f.state == state]

    @property
    def changes(self) -> list[Finding]:
        """What needs a change."""
        return self.of(CHANGE)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "path": self.path,
            "files": self.num_files,
            "summary": dict(Counter(f.state for f in self.findings)),
            "findings": [asdict(f) for f in self.findings],
        }

    def __str__(self) -> str:
        covered = self.of(COVERED)
        files = len({f.file for f in self.findings})
        lines = [
            f"{self.num_files} files read, {files} of them with something to say",
            f"covered: {len({f.name for f in covered})} names in {len(covered)} places",
        ]
        for title, state in (("needs a change", CHANGE), ("from its own package", ELSEWHERE)):
            found = self.of(state)
            lines += [f"{title}: {len(found) or 'nothing'}", *_listed(found)]
        notes = sorted({f"  {_said(f)}" for f in covered if f.note})
        return "\n".join([*lines, *(["good to know:", *notes] if notes else [])])


def _said(finding: Finding) -> str:
    """Return name and note, without saying the name twice."""
    name, note = finding.name, finding.note
    return note if note.startswith(name) else f"{name}: {note}"


def _listed(findings: list[Finding]) -> Iterator[str]:
    """Say each thing once: where, if it is in one place, or followed by its places."""
    groups: dict[str, dict[str, list[int]]] = {}
    for found in findings:
        groups.setdefault(_said(found), {}).setdefault(found.file, []).append(found.line)
    for text, files in groups.items():
        places = [
            f"{file}:{', '.join(map(str, lines))}" if any(lines) else file
            for file, lines in files.items()
        ]
        if len(places) == 1 and "," not in places[0]:
            yield f"  {places[0]}  {text}"
        else:
            yield f"  {text}"
            yield from (f"    {place}" for place in places)


def read_project(path: str | os.PathLike[str]) -> ProjectReport:
    """Read a project, or one file, without running it.

    Raises:
        InputError: If there is no such file or folder.
    """
    root = existing(path)
    own = own_packages(root)
    base = root if root.is_dir() else root.parent
    findings: list[Finding] = []
    num_files = 0
    for file in python_files(root):
        num_files += 1
        findings += _read_file(file, file.relative_to(base).as_posix(), own)
    if root.is_dir():
        copies = [folder.relative_to(root).as_posix() for folder in carried_copies(root)]
        findings += [Finding(f"{name}/", 0, f"{name}/", COVERED, _COPY) for name in copies]
        findings += _requirements(root, has_copy=bool(copies))
    return ProjectReport(str(root), num_files, tuple(findings))


def _requirements(root: Path, *, has_copy: bool) -> Iterator[Finding]:
    for file in project_files(root):
        if not is_requirement_file(file.name) or (has_copy and file.name == "setup.py"):
            continue  # the setup.py of a copy names what it is
        name = file.relative_to(root).as_posix()
        try:
            lines = file.read_text("utf-8", errors="replace").splitlines()
        except OSError:
            continue
        for line, state, note in required(lines):
            yield Finding(name, line, "requirement detectron2", state, note)


def _read_file(file: Path, name: str, own: frozenset[str]) -> Iterator[Finding]:
    try:
        text, tree = read_tree(file)
    except SyntaxError as error:
        yield Finding(name, error.lineno or 0, "syntax", CHANGE, error.msg)
        return
    except OSError as error:
        yield Finding(name, 0, "file", CHANGE, f"cannot be read: {error.strerror}")
        return
    if file.suffix != ".ipynb":
        yield from _in_tree(name, tree, own)
        return
    for found in [*_in_tree(name, tree, own), *_of_ipython(name, text)]:
        cell, line = place_in(text, found.line)
        yield replace(found, file=f"{name} cell {cell}", line=line)


def _of_ipython(name: str, text: str) -> Iterator[Finding]:
    """Find what a notebook installs by ``!pip``, and its cells that are not Python."""
    rows = ipython_lines(text)
    for index, state, note in required(row for _, row in rows):
        yield Finding(name, rows[index - 1][0], "requirement detectron2", state, note)
    for line in unread_cells(text):
        yield Finding(name, line, "syntax", CHANGE, "not Python 3; the cell was not read")


def _in_tree(name: str, tree: ast.Module, own: frozenset[str]) -> Iterator[Finding]:
    seen: set[tuple[str, int]] = set()
    for use in used_names(tree):
        if (use.name, use.line) not in seen:
            seen.add((use.name, use.line))
            yield from _judged(name, use, own)
    yield from _extensions(name, tree)


def _judged(file: str, use: Use, own: frozenset[str]) -> Iterator[Finding]:
    if is_served(use.module, own):
        verdict = judge(use.module, use.path)
        if use.kind == "text" and verdict.state != COVERED:
            return  # a file name, an address
        yield _finding(file, use, verdict.state, verdict.note, verdict.home)
    elif use.kind != "text" and (text := what_instead(use.name)):
        if is_put_back(use.name):
            text = f"there again under the import hook; {text}"
            yield _finding(file, use, COVERED, text)
        else:
            yield _finding(file, use, CHANGE, text)


def _finding(file: str, use: Use, state: str, note: str, home: str = "") -> Finding:
    if use.is_guarded and state == CHANGE:
        state, note = COVERED, f"{_GUARDED}; {note}"
    return Finding(file, use.line, use.name, state, note, home)


def _extensions(file: str, tree: ast.Module) -> Iterator[Finding]:
    """Find what the project compiles, also where the class is put into a variable first."""
    makers = set(_EXTENSIONS)
    calls = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and _last_name(node.value) in _EXTENSIONS:
            makers |= {_last_name(target) for target in node.targets}
        elif isinstance(node, ast.Call):
            calls.append(node)
    for call in calls:
        if _last_name(call.func) in makers:
            named = [*call.args, *(k.value for k in call.keywords if k.arg == "name")]
            name = getattr(named[0], "value", None) if named else None
            said = f"extension {ast.unparse(named[0]) if named else 'of its own'}"
            is_ours = name in COMPILED or name in COLLECTIONS
            state, note = (COVERED, _BUILT) if is_ours else (CHANGE, _BUILD)
            yield Finding(file, call.lineno, said, state, note)


def _last_name(node: ast.expr) -> str:
    return str(getattr(node, "attr", getattr(node, "id", "")))
