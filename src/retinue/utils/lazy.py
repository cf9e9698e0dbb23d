"""Names that are looked up in another module when first asked for.

A package's ``__init__`` lists where its names live, and importing the package imports nothing
else. A module that moved keeps its old path by the same means.
"""

import importlib
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["forward_module", "lazy_exports"]


def lazy_exports(
    module: str, homes: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Make ``__getattr__``, ``__dir__`` and ``__all__`` for a package.

    Args:
        module: the package's ``__name__``.
        homes: name -> module that defines it, or ``"module:attribute"`` where the names differ.
            An empty home stands for the submodule of that name.

    Example:
        ``__getattr__, __dir__, __all__ = lazy_exports(__name__, {"build_model": "a.b.build"})``
    """

    def getattr_(name: str) -> Any:
        if name not in homes:
            try:  # `package.submodule` after a plain `import package`, as eager packages allow
                return importlib.import_module(f"{module}.{name}")
            except ModuleNotFoundError as error:
                if error.name != f"{module}.{name}":
                    raise
                message = f"module {module!r} has no attribute {name!r}"
                raise AttributeError(message, name=name) from None
        home, _, attribute = homes[name].partition(":")
        if not home:
            return importlib.import_module(f"{module}.{name}")
        return getattr(importlib.import_module(home), attribute or name)

    return getattr_, lambda: sorted(homes), sorted(homes)


def forward_module(
    module: str, target: str
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Make ``__getattr__`` and ``__dir__`` of a module whose content lives in ``target`` now.

    Example:
        ``__getattr__, __dir__ = forward_module(__name__, "retinue.visualization.visualizer")``
    """

    def getattr_(name: str) -> Any:
        if name.startswith("__") and name != "__all__":
            raise AttributeError(f"module {module!r} has no attribute {name!r}", name=name)
        if name == "__all__":  # so that `from module import *` brings the same names
            home = importlib.import_module(target)
            return getattr(home, name, [n for n in dir(home) if not n.startswith("_")])
        return getattr(importlib.import_module(target), name)

    return getattr_, lambda: dir(importlib.import_module(target))
