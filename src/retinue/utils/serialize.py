"""Handing functions to other processes."""

from __future__ import annotations

import pickle
from typing import Any

__all__ = ["PicklableWrapper"]


class PicklableWrapper:
    """A callable in a wrapper that behaves like it; on the other side the callable comes out bare.

    What can be imported by name travels by its name: functions and classes of a module, their
    instances, ``functools.partial`` of them. Lambdas and local functions need the package
    cloudpickle (``pip install 'retinue[compat]'``).
    """

    def __init__(self, obj: Any) -> None:
        self._obj: Any = obj._obj if isinstance(obj, PicklableWrapper) else obj

    def __reduce__(self) -> tuple[Any, ...]:
        try:
            pickle.dumps(self._obj)
        except (pickle.PicklingError, AttributeError, TypeError):
            try:
                import cloudpickle
            except ImportError:
                pass  # pickle then says itself what it can't do
            else:
                return pickle.loads, (cloudpickle.dumps(self._obj),)
        return _unwrapped, (self._obj,)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._obj(*args, **kwargs)

    def __getattr__(self, attr: str) -> Any:
        if attr == "_obj":  # not there yet, while an instance is being made
            raise AttributeError(attr)
        return getattr(self._obj, attr)


def _unwrapped(obj: Any) -> Any:
    return obj
