"""The two tables every dataset is looked up in.

``DatasetCatalog`` maps a name to a function that returns the dataset's samples, ``MetadataCatalog``
to what is true of the whole dataset: class names, colours, files. Both know the built-in datasets;
those rows are filled in when a table is first looked at, not on import.
"""

import copy
import importlib
import logging
import threading
import types
from collections import UserDict
from collections.abc import Callable
from typing import Any

from retinue.utils.errors import InputError, close_names, unknown_name
from retinue.utils.logger import log_first_n

__all__ = ["DatasetCatalog", "Metadata", "MetadataCatalog"]


class _LazyRows(UserDict[str, Any]):
    """A dict that calls ``_fill`` once, before its rows are first looked at."""

    _fill: Callable[[], None] | None = None

    @property
    def data(self) -> dict[str, Any]:
        if self._fill is not None:
            self._fill()
        return self._rows

    @data.setter
    def data(self, rows: dict[str, Any]) -> None:
        self._rows = rows

    def __copy__(self) -> "_LazyRows":
        return type(self)(self.data)


class _DatasetCatalog(_LazyRows):
    """Names of datasets and the functions that load them.

    A function takes no argument and returns a ``list[dict]``, one dict an image, or a
    ``torch.utils.data.Dataset`` of such dicts; every call returns the same.
    """

    def register(self, name: str, func: Callable[[], Any]) -> None:
        """Make ``func`` the loader of dataset ``name``.

        Raises:
            InputError: (an ``AssertionError``) If ``func`` can't be called or the name is taken.
        """
        if not callable(func):
            raise InputError(
                f"DatasetCatalog.register({name!r}): needs a function that returns the samples;"
                f" got {type(func).__name__}; wrap the samples as `lambda: samples`"
            )
        if name in self:
            raise InputError(
                f"DatasetCatalog.register: {name!r} is registered already; choose another name,"
                f" or DatasetCatalog.remove({name!r}) first"
            )
        self[name] = func

    def get(self, name: str) -> Any:  # type: ignore[override]
        """Load dataset ``name`` by calling its function.

        Raises:
            UnknownNameError: (a ``KeyError``) with the nearest registered names.
        """
        if name not in self:
            hint = "register yours by DatasetCatalog.register or register_coco_instances"
            raise unknown_name("dataset", name, self.keys(), hint)
        return self[name]()

    def list(self) -> list[str]:
        """Return the names of all datasets."""
        return list(self.keys())

    def remove(self, name: str) -> None:
        """Forget dataset ``name``; a ``KeyError`` if there is none."""
        self.pop(name)

    def __str__(self) -> str:
        return f"DatasetCatalog({len(self)} datasets: {', '.join(self.keys())})"

    __repr__ = __str__


class Metadata(types.SimpleNamespace):
    """What is known of one dataset, as attributes; a value, once set, can't become another.

    Example:
        >>> meta = Metadata(name="fruit").set(thing_classes=["apple", "pear"])
        >>> meta.thing_classes, meta.get("thing_colors", "unknown")
        (['apple', 'pear'], 'unknown')
    """

    name: str = "N/A"

    _RENAMED = types.MappingProxyType(
        {
            "class_names": "thing_classes",
            "dataset_id_to_contiguous_id": "thing_dataset_id_to_contiguous_id",
            "stuff_class_names": "stuff_classes",
        }
    )

    def __getattr__(self, key: str) -> Any:
        if key in self._RENAMED:
            return getattr(self, self._current(key))
        known = sorted(self.__dict__)
        close = close_names(key, known)
        raise AttributeError(
            f"metadata of dataset {self.name!r} has no {key!r}; "
            + (f"did you mean {' or '.join(map(repr, close))}? " if close else "")
            + (f"it has: {', '.join(known)}" if len(known) > 1 else "nothing was set on it yet")
        )

    def __setattr__(self, key: str, val: Any) -> None:
        if key in self._RENAMED:
            key = self._current(key)
        if key not in self.__dict__:
            super().__setattr__(key, val)
            return
        old = self.__dict__[key]
        if not _same(old, val):
            raise InputError(
                f"metadata {key!r} of dataset {self.name!r} can't change once set;"
                f" it is {old!r}, got {val!r}; use another dataset name for other metadata"
            )

    def _current(self, key: str) -> str:
        new = self._RENAMED[key]
        log_first_n(logging.WARNING, f"Metadata {key!r} is now called {new!r}", n=10)
        return new

    def as_dict(self) -> dict[str, Any]:
        """Return a dict of everything set; changing it doesn't change the metadata."""
        return copy.copy(self.__dict__)

    def set(self, **kwargs: Any) -> "Metadata":
        """Set several attributes; return self."""
        for key, value in kwargs.items():
            setattr(self, key, value)
        return self

    def get(self, key: str, default: Any = None) -> Any:
        """Return attribute ``key``, or ``default`` if it isn't set."""
        try:
            return getattr(self, key)
        except AttributeError:
            return default


class _MetadataCatalog(_LazyRows):
    """Names of datasets and their ``Metadata``; asking for a new name makes an empty one."""

    def get(self, name: str) -> Metadata:  # type: ignore[override]
        """Return the one ``Metadata`` of that name.

        Raises:
            InputError: (an ``AssertionError``) If the name is empty.
        """
        if not name:
            raise InputError("MetadataCatalog.get: needs the name of a dataset; got ''")
        if name not in self:
            self[name] = Metadata(name=name)
        meta: Metadata = self[name]
        return meta

    def list(self) -> list[str]:
        """Return all names that have metadata."""
        return list(self.keys())

    def remove(self, name: str) -> None:
        """Forget the metadata called ``name``; a ``KeyError`` if there is none."""
        self.pop(name)

    def __str__(self) -> str:
        return f"MetadataCatalog({len(self)} names: {', '.join(self.keys())})"

    __repr__ = __str__


def _same(old: Any, new: Any) -> bool:
    equal = old == new
    return bool(equal.all() if hasattr(equal, "all") else equal)  # arrays compare by element


DatasetCatalog = _DatasetCatalog()
MetadataCatalog = _MetadataCatalog()

# The module that registers the built-in datasets. It stands above the tables and, like a row of a
# registry, is imported when somebody first looks.
_BUILTIN = "retinue.data.datasets.builtin"

_filling = threading.RLock()
_started = threading.Event()


def _fill_builtin() -> None:
    """Give both catalogs the rows of the built-in datasets, once."""
    with _filling:  # other threads wait; the filling one comes back here when it registers
        if _started.is_set():
            return
        _started.set()
        importlib.import_module(_BUILTIN).register_all_builtin()
        DatasetCatalog._fill = MetadataCatalog._fill = None


DatasetCatalog._fill = MetadataCatalog._fill = _fill_builtin
