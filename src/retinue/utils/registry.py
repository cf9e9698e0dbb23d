"""Registries: tables from names to objects.

A registry of the library is a catalog: its rows say where each object lives, and a row is imported
when it is first asked for. ``register`` adds a user's own class or function beside them.
"""

import functools
import importlib
import pydoc
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from retinue.utils.errors import InputError, unknown_name
from retinue.utils.served_names import served_name

__all__ = ["Registry", "locate"]

_REPLACEABLE = "retinue.projects."  # rows that give way to a project's own class of the name


class Registry:
    """A table from names to classes or functions.

    Args:
        name: what error messages call the table, e.g. ``"BACKBONE"``.
        catalog: rows ``name -> "module:attribute"``, imported when first asked for.
        key: the config key whose value names a row, for error messages.
        families: rows ``prefix -> "module:function"`` for names ``prefix:anything``, which nobody
            can list: the object is ``functools.partial(function, name)``.

    Example:
        >>> SHAPES = Registry("SHAPE", {"OrderedDict": "collections:OrderedDict"})
        >>> @SHAPES.register()
        ... class Circle: ...
        >>> SHAPES.get("Circle").__name__, SHAPES.get("OrderedDict").__name__
        ('Circle', 'OrderedDict')
    """

    def __init__(
        self,
        name: str,
        catalog: Mapping[str, str] | None = None,
        *,
        key: str = "",
        families: Mapping[str, str] | None = None,
    ) -> None:
        self._name = name
        self._key = key
        self._families = dict(families or {})
        self._catalog = dict(catalog or {})
        self._obj_map: dict[str, Any] = {}

    def register(self, obj: Any = None) -> Any:
        """Add a class or function under its ``__name__``; a decorator, or called with it.

        One of ``retinue.projects`` gives way: code of the project that it was built after may
        register its own.

        Raises:
            InputError: If another object has that name already.
        """
        if obj is None:
            return self._decorator()
        self._do_register(obj.__name__, obj)
        return obj

    def _decorator(self) -> Callable[[Any], Any]:
        def decorate(obj: Any) -> Any:
            self._do_register(obj.__name__, obj)
            return obj

        return decorate

    def _do_register(self, name: str, obj: Any) -> None:
        row = self._catalog.get(name)
        is_row_itself = row == f"{getattr(obj, '__module__', '')}:{name}"
        if row is not None and row.startswith(_REPLACEABLE) and not is_row_itself:
            del self._catalog[name]  # the project itself is there, with its own
            self._obj_map.pop(name, None)
            row = None
        if name in self._obj_map or (row is not None and not is_row_itself):
            raise InputError(
                f"{self._name} registry: {name!r} was already registered"
                f" (by {row or self._obj_map[name].__module__}); give yours another name"
            )
        self._obj_map[name] = obj

    def get(self, name: str) -> Any:
        """Return the object called ``name``, importing it if it is a row of the catalog.

        Raises:
            UnknownNameError: (a ``KeyError``) with the nearest known names.
        """
        if name not in self._obj_map:
            if family := self._family(name):
                return functools.partial(_import_row(self._families[family]), name)
            if name not in self._catalog:
                hint = f"set {self._key} to one of them" if self._key else ""
                known = self._names() + [f"{prefix}:NAME" for prefix in self._families]
                raise unknown_name(f"name in the {self._name} registry", name, known, hint)
            self._obj_map.setdefault(name, _import_row(self._catalog[name]))
        return self._obj_map[name]

    def _family(self, name: object) -> str:
        """Return the prefix of a name of a family, and of any other name nothing."""
        prefix, colon, rest = str(name).partition(":")
        return prefix if colon and rest and prefix in self._families else ""

    def _names(self) -> list[str]:
        return sorted(self._catalog.keys() | self._obj_map.keys())

    def __contains__(self, name: object) -> bool:
        return name in self._obj_map or name in self._catalog or bool(self._family(name))

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        return iter([(name, self.get(name)) for name in self._names()])

    def __repr__(self) -> str:
        families = [f"{prefix}:*" for prefix in sorted(self._families)]
        return f"Registry of {self._name}: {', '.join(self._names() + families)}"

    __str__ = __repr__


def _import_row(row: str) -> Any:
    module, _, attribute = row.partition(":")
    return getattr(importlib.import_module(module), attribute)


def locate(name: str) -> Any:
    """Return the object with a dotted name such as ``"torch.nn.Linear"`` or ``"a.b.Class.method"``.

    Raises:
        ImportError: If nothing by that name can be imported.
    """
    found = pydoc.locate(name)
    if found is None and name.startswith("detectron2."):  # in files that detectron2 wrote
        found = pydoc.locate("retinue." + name.partition(".")[2])
    if found is None:
        raise ImportError(f"cannot find {name!r}: is it spelt right, and is its package installed?")
    return found


def _convert_target_to_string(obj: Any) -> str:
    """Return the shortest dotted name by which ``obj`` can be imported; undoes ``locate``."""
    module, name = obj.__module__, obj.__qualname__
    parts = module.split(".")
    for depth in range(1, len(parts)):  # a class that its package re-exports has a shorter name
        short = ".".join(parts[:depth])
        try:
            if getattr(importlib.import_module(short), name, None) is obj:
                return served_name(f"{short}.{name}")
        except ImportError:
            continue
    return served_name(f"{module}.{name}")
