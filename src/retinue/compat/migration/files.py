"""Which files of a project are read, and their text as a syntax tree."""

from __future__ import annotations

import ast
import os
import tokenize
from collections.abc import Iterator
from pathlib import Path

from retinue.compat.migration.notebook import joined_cells
from retinue.utils.errors import InputError

__all__ = [
    "carried_copies",
    "existing",
    "own_packages",
    "project_files",
    "python_files",
    "read_tree",
]

_SKIPPED = {"__pycache__", "build", "dist", "node_modules", "site-packages"}
_ALWAYS_OURS = {"detectron2", "fvcore", "iopath"}


def existing(path: str | os.PathLike[str]) -> Path:
    """Return a project's path.

    Raises:
        InputError: If there is nothing.
    """
    if not os.path.exists(path):
        raise InputError(f"retinue migrate: expected a project's folder or file; no {str(path)!r}")
    return Path(path)


def project_files(path: Path) -> Iterator[Path]:
    """Yield a file, or the files of a folder without its environments and build folders.

    Links to files that are in the folder anyway, broken links and pipes are left out.
    """
    if path.is_file():
        yield path
        return
    root = path.resolve()
    for folder, subfolders, files in os.walk(path):
        here = Path(folder)
        subfolders[:] = sorted(
            name
            for name in subfolders
            if not name.startswith(".")
            and name not in _SKIPPED
            and not (here / name / "pyvenv.cfg").exists()
        )
        for file in (here / name for name in sorted(files)):
            is_second = file.is_symlink() and root in file.resolve().parents
            if not is_second and file.is_file():
                yield file


def carried_copies(path: Path) -> list[Path]:
    """Return the folders below ``path`` that are copies of detectron2 itself."""
    return [
        file.parent
        for file in project_files(path)
        if file.name == "__init__.py"
        and file.parent.name == "detectron2"
        and file.parent != path
        and not (file.parent.parent / "__init__.py").exists()
    ]


def python_files(path: Path) -> Iterator[Path]:
    """Yield the Python files and notebooks of a project, those of a copy of detectron2 left out."""
    if path.is_file():
        yield path
        return
    copies = set(carried_copies(path))
    for file in project_files(path):
        if file.suffix in (".py", ".ipynb") and copies.isdisjoint(file.parents):
            yield file


def own_packages(path: Path) -> frozenset[str]:
    """Return the top-level names that the project itself defines, wherever in it they are.

    Not those that the import hook serves in any case.
    """
    found = set()
    for file in python_files(path):
        if file.name == "__init__.py" and not (file.parent.parent / "__init__.py").exists():
            found.add(file.parent.name)
        if path.is_dir() and file.parent != path:  # a package without __init__.py
            found.add(file.relative_to(path).parts[0])
    return frozenset(found - _ALWAYS_OURS)


def read_tree(file: Path) -> tuple[str, ast.Module]:
    """Return a file's text and syntax tree; a notebook's cells are one text.

    Raises:
        SyntaxError: If it is no Python 3, no notebook, or its encoding is unknown.
        OSError: If it cannot be read.
    """
    content = file.read_bytes()
    if file.suffix == ".ipynb":
        text = joined_cells(content)
    else:
        lines = iter(content.splitlines(keepends=True))
        try:
            encoding, _ = tokenize.detect_encoding(lambda: next(lines, b""))
            text = content.decode(encoding)
        except (SyntaxError, UnicodeDecodeError) as error:
            raise SyntaxError(
                "neither UTF-8 nor what a `# coding:` line says; save it as UTF-8"
            ) from error
    try:
        return text, ast.parse(text)
    except SyntaxError as error:
        error.msg = f"not Python 3: {error.msg}"
        raise
    except ValueError as error:  # null bytes
        raise SyntaxError(f"not Python: {error}") from error
    except (RecursionError, MemoryError) as error:
        raise SyntaxError("nested too deeply for Python's parser") from error
