"""Where a project asks for detectron2 to be installed."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Iterator

from retinue.compat.migration.verdict import CHANGE, COVERED

__all__ = ["is_requirement_file", "required"]

_FILES = (
    "*requirements*.txt",
    "Dockerfile*",
    "environment*.yaml",
    "environment*.yml",
    "pyproject.toml",
    "setup.cfg",
    "setup.py",
)
_ADDRESS = re.compile(
    r"(?:git\+|git clone\b).*/detectron2(?:\.git)?(?![\w-])"
    r"|/detectron2/wheels/|\bdetectron2-\d\S*\.whl|\bdetectron2 *@"
)
_NAMED = re.compile(
    r"^\s*(?:- *)?detectron2(?![\w./-])|[\"']detectron2(?=[\"' =<>~!\[])"
    r"|\bpip3? install\b.*\bdetectron2\b"
)
_FETCHED = (
    "this fetches the real detectron2 and compiles it: write retinue, and where other packages"
    " require the name, install packaging/detectron2 of retinue's repository"
)
_ANSWERED = (
    "install packaging/detectron2 of retinue's repository first, which answers it; or write retinue"
)


def is_requirement_file(name: str) -> bool:
    """Whether a file of this name says what to install.

    >>> is_requirement_file("requirements-dev.txt"), is_requirement_file("notes.txt")
    (True, False)
    """
    return any(fnmatch.fnmatch(name, pattern) for pattern in _FILES)


def required(lines: Iterable[str]) -> Iterator[tuple[int, str, str]]:
    """Yield line number, state and note of each line that asks for detectron2."""
    for number, line in enumerate(lines, start=1):
        if line.lstrip().startswith("#"):
            continue
        if _ADDRESS.search(line):
            yield number, CHANGE, _FETCHED
        elif _NAMED.search(line) and "name" not in line:
            yield number, COVERED, _ANSWERED
