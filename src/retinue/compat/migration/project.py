"""All files of a project, read for what they use; the report."""

from __future__ import annotations

import ast
import os
import re
import tokenize
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from retinue.compat.migration.dated import what_instead
from retinue.compat.migration.source import Use, used_names
from retinue.compat.migration.verdict import CHANGE, COVERED, ELSEWHERE, is_served, judge
from retinue.utils.errors import InputError

__all__ = ["Finding", "ProjectReport", "own_packages", "python_files", "read_project", "read_tree"]

_SKIPPED = {"__pycache__", "build", "dist", "node_modules", "site-packages"}
_EXTENSIONS = ("CUDAExtension", "CppExtension")
_BUILD = (
    "a compiled extension: build it as the project says, or use retinue.layers where one of its"
    " functions does the same (roi_align, deform_conv, nms, rotated boxes)"
)
_REQUIREMENT = re.compile(r"^\s*detectron2\b(?![./])|[\"']detectron2(?=[\"' =<>~!@\[])")


@dataclass(frozen=True)
class Finding:
    """One place, and what becomes of it.

    Attributes:
        file: relative to the project.
        line: counted from 1; 0 for the whole file.
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
            f"{self.num_files} Python files read, {files} of them with something to say",
            f"covered: {len({f.name for f in covered})} names in {len(covered)} places",
        ]
        for title, state in (("needs a change", CHANGE), ("from its own package", ELSEWHERE)):
            found = self.of(state)
            lines.append(f"{title}: {len(found) or 'nothing'}")
            lines += [f"  {f.file}:{f.line}  {_said(f)}" for f in found]
        notes = sorted({f"  {_said(f)}" for f in covered if f.note})
        return "\n".join([*lines, *(["good to know:", *notes] if notes else [])])


def _said(finding: Finding) -> str:
    """Return name and note, without saying the name twice."""
    name, note = finding.name, finding.note
    return note if note.startswith(name) else f"{name}: {note}"


def python_files(path: Path) -> Iterator[Path]:
    """Yield a file, or the Python files of a folder without its environments and build folders."""
    if path.is_file():
        yield path
        return
    for folder, subfolders, files in os.walk(path):
        here = Path(folder)
        subfolders[:] = sorted(
            name
            for name in subfolders
            if not name.startswith(".")
            and name not in _SKIPPED
            and not (here / name / "pyvenv.cfg").exists()
        )
        yield from (here / name for name in sorted(files) if name.endswith(".py"))


def own_packages(path: Path) -> frozenset[str]:
    """Return the top-level names that the project itself defines, wherever in it they are."""
    found = set()
    for file in python_files(path):
        if file.name == "__init__.py" and not (file.parent.parent / "__init__.py").exists():
            found.add(file.parent.name)
        if path.is_dir() and file.parent != path:  # a package without __init__.py
            found.add(file.relative_to(path).parts[0])
    return frozenset(found)


def read_tree(file: Path) -> tuple[str, ast.Module]:
    """Return a file's text and syntax tree.

    Raises:
        SyntaxError: If it is no Python 3, or its encoding is unknown.
    """
    with open(file, "rb") as f:
        encoding, _ = tokenize.detect_encoding(f.readline)
    try:
        text = file.read_bytes().decode(encoding)
    except UnicodeDecodeError as error:
        raise SyntaxError(f"not in {encoding}: {error.reason}") from error
    try:
        return text, ast.parse(text)
    except ValueError as error:  # null bytes
        raise SyntaxError(str(error)) from error


def read_project(path: str | os.PathLike[str]) -> ProjectReport:
    """Read a project, or one file, without running it.

    Raises:
        InputError: If there is no such file or folder.
    """
    root = Path(path)
    if not root.exists():
        raise InputError(f"retinue migrate: expected a project's folder or file; no {str(root)!r}")
    own = own_packages(root)
    base = root if root.is_dir() else root.parent
    findings: list[Finding] = []
    num_files = 0
    for file in python_files(root):
        num_files += 1
        findings += _read_file(file, file.relative_to(base).as_posix(), own)
    findings += _requirements(base) if root.is_dir() else []
    return ProjectReport(str(root), num_files, tuple(findings))


def _read_file(file: Path, name: str, own: frozenset[str]) -> Iterator[Finding]:
    try:
        _, tree = read_tree(file)
    except SyntaxError as error:
        yield Finding(name, error.lineno or 0, "syntax", CHANGE, f"not Python 3: {error.msg}")
        return
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
        yield Finding(file, use.line, use.name, verdict.state, verdict.note, verdict.home)
    elif use.kind != "text" and (text := what_instead(use.name)):
        yield Finding(file, use.line, use.name, CHANGE, text)


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
            first = ast.unparse(named[0]) if named else "of its own"
            yield Finding(file, call.lineno, f"extension {first}", CHANGE, _BUILD)


def _last_name(node: ast.expr) -> str:
    return str(getattr(node, "attr", getattr(node, "id", "")))


def _requirements(root: Path) -> Iterator[Finding]:
    note = "the distribution `detectron2` that comes with retinue answers it; or require retinue"
    files = [*root.glob("requirements*.txt"), *root.glob("pyproject.toml"), *root.glob("setup.py")]
    for file in sorted(files):
        for number, line in enumerate(file.read_text("utf-8", errors="replace").splitlines(), 1):
            if _REQUIREMENT.search(line):
                yield Finding(file.name, number, "requirement detectron2", COVERED, note)
