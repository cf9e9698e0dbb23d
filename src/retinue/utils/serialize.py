"""Handing functions to other processes."""

from __future__ import annotations

from typing import Any

__all__ = ["PicklableWrapper"]


class PicklableWrapper:
    """A callable in a wrapper that behaves like it; on the other side the callable comes out bare.

    Only what can be imported by name travels: functions and classes of a module and their
    instances, not lambdas. ``functools.partial`` of a module's function does, too.
    """

    def __init__(self, obj: Any) -> None:
        self._obj: Any = obj._obj if isinstance(obj, PicklableWrapper) else obj

    def __reduce__(self) -> tuple[Any, ...]:
        return _unwrapped, (self._obj,)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._obj(*args, **kwargs)

    def __getattr__(self, attr: str) -> Any:
        if attr == "_obj":  # not there yet, while an instance is being made
            raise AttributeError(attr)
        return getattr(self._obj, attr)


def _unwrapped(obj: Any) -> Any:
    return obj
