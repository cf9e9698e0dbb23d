"""Running config files as modules, relative imports between them included.

Each file runs once per import of it, as a module in a package made up for it alone, so that two
files that import the same third one do not change each other's copy. The packages leave
``sys.modules`` when the file has run; nothing of the import system is replaced.
"""

from __future__ import annotations

import ast
import itertools
import os
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from omegaconf import DictConfig

from retinue.utils.file_io import PathManager

__all__ = ["as_config", "load_namespace"]

_numbers = itertools.count()


def as_config(value: Any) -> Any:
    """Turn a dict into a DictConfig; leave everything else."""
    if isinstance(value, dict):
        return DictConfig(value, flags={"allow_objects": True})
    return value


def load_namespace(filename: str) -> dict[str, Any]:
    """Run a config file and return its names.

    Raises:
        SyntaxError: If it is not Python, with file and line.
        ImportError: If it imports a config file that is not there.
    """
    return vars(_run(filename, ()))


def _run(filename: str, above: tuple[str, ...]) -> ModuleType:
    if filename in above:
        raise ImportError(f"config files import each other: {' -> '.join([*above, filename])}")
    with PathManager.open(filename, "r") as file:
        source = file.read()
    tree = ast.parse(source, filename)
    imports = [
        node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level > 0
    ]
    depth = max((node.level for node in imports), default=1)
    root = f"_retinue_config_{next(_numbers)}"
    package = ".".join([root, *(f"above{i}" for i in range(depth - 1, 0, -1))])
    module = ModuleType(f"{package}.{os.path.splitext(os.path.basename(filename))[0]}")
    module.__file__, module.__package__ = filename, package
    try:
        for parent in _prefixes(package):
            sys.modules[parent] = ModuleType(parent)
        for node in imports:
            _provide(node, filename, package, (*above, filename))
        exec(compile(tree, filename, "exec"), vars(module))
    finally:
        for name in [n for n in sys.modules if n == root or n.startswith(root + ".")]:
            del sys.modules[name]
    return module


def _prefixes(dotted: str) -> Iterator[str]:
    parts = dotted.split(".")
    return (".".join(parts[:count]) for count in range(1, len(parts) + 1))


def _provide(node: ast.ImportFrom, filename: str, package: str, above: tuple[str, ...]) -> None:
    """Put into ``sys.modules`` what ``from ..a.b import c`` is going to look up."""
    here = package.rsplit(".", node.level - 1)[0]  # the package that the dots lead to
    folder = os.path.dirname(filename)
    for _ in range(node.level - 1):
        folder = os.path.dirname(folder) if folder not in ("", ".", "..") else f"{folder}/.."
    parts = (node.module or "").split(".") if node.module else []
    path = os.path.join(folder, *parts) if parts else folder
    if parts and PathManager.isfile(path + ".py"):
        module = _run(path + ".py", above)
        for name, value in list(vars(module).items()):
            if not name.startswith("__"):
                setattr(module, name, as_config(value))
        _bind(".".join([here, *parts]), module)
        return
    files = {alias.name: os.path.join(path, alias.name + ".py") for alias in node.names}
    missing = [file for file in files.values() if not PathManager.isfile(file)]
    if missing:
        dots = "." * node.level + (node.module or "")
        names = ", ".join(files)
        wanted = f"{path}.py" if parts else missing[0]
        raise ImportError(
            f"{filename}, line {node.lineno}: cannot follow the relative import"
            f" `from {dots} import {names}`: {wanted} does not exist"
        )
    holder = sys.modules.setdefault(".".join([here, *parts]), ModuleType(here))
    for name, file in files.items():
        setattr(holder, name, _run(file, above))


def _bind(dotted: str, module: ModuleType) -> None:
    """Register a module, and packages above it where there are none."""
    for parent in list(_prefixes(dotted))[:-1]:
        sys.modules.setdefault(parent, ModuleType(parent))
    sys.modules[dotted] = module
