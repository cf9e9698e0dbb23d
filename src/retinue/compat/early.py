"""Serves fvcore, iopath and the others where a program imports them before ``detectron2``.

Programs for detectron2 often begin with ``from fvcore.common.config import CfgNode``. The
distribution in ``packaging/`` therefore imports this module whenever Python starts: it is small,
and the hook is installed only once one of the names is imported.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

__all__ = ["EarlyFinder", "watch"]

ALWAYS = frozenset({"fvcore", "iopath"})
"""Names that are ours even where the real packages are installed, as under the hook."""


class _Installing(Loader):
    """Installs the hook and loads what it serves under the name."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        from retinue.compat.hook import install

        install()
        module = importlib.import_module(spec.name)
        self._own_spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._own_spec  # importlib has put another there


class EarlyFinder(MetaPathFinder):
    """Finds served packages until the hook is installed, which then finds them itself.

    Args:
        always: stand before other finders, for the names of ``ALWAYS``; else behind them, for what
            nothing else is installed for.
    """

    def __init__(self, *, always: bool) -> None:
        self._always = always

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if path is not None or (self._always and fullname not in ALWAYS):
            return None
        hook = sys.modules.get("retinue.compat.hook")
        if hook is not None and hook.is_installed():
            return None
        from retinue.compat.served import COLLECTIONS, FALLBACKS

        if fullname not in COLLECTIONS and fullname not in FALLBACKS:
            return None
        return ModuleSpec(fullname, _Installing(), origin="retinue", is_package=True)


def watch() -> None:
    """Add the finders; calling it again does nothing."""
    if not any(isinstance(finder, EarlyFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, EarlyFinder(always=True))
        sys.meta_path.append(EarlyFinder(always=False))
