"""What all converters have in common: a table from types to functions."""

from collections.abc import Callable
from typing import Any, ClassVar

import torch

__all__ = ["BaseConverter", "IntTupleBox", "make_int_box"]

IntTupleBox = tuple[int, int, int, int]


class BaseConverter:
    """Converts by the function that is registered for an object's class or its nearest base.

    A subclass has its own ``registry`` and says what it converts to in ``dst_type``; None stands
    for the class that comes in.
    """

    registry: ClassVar[dict[type, Callable[..., Any]]] = {}
    dst_type: ClassVar[type | None] = None

    @classmethod
    def register(cls, from_type: type, converter: Any = None) -> Any:
        """Add a function for a class; a decorator if no function is given."""

        def add(function: Callable[..., Any]) -> Callable[..., Any]:
            cls._do_register(from_type, function)
            return function

        return add if converter is None else add(converter)

    @classmethod
    def _do_register(cls, from_type: type, converter: Callable[..., Any]) -> None:
        cls.registry[from_type] = converter

    @classmethod
    def _lookup_converter(cls, from_type: type) -> Any:
        """Return the function for a class; None if neither it nor a base has one."""
        return next((cls.registry[t] for t in from_type.__mro__ if t in cls.registry), None)

    @classmethod
    def convert(cls, instance: Any, *args: Any, **kwargs: Any) -> Any:
        """Convert an object; further arguments go to the function.

        Raises:
            KeyError: If there is no function for its class.
        """
        converter = cls._lookup_converter(type(instance))
        if converter is None:
            known = ", ".join(t.__name__ for t in cls.registry)
            raise KeyError(
                f"{cls.__name__}: nothing converts a {type(instance).__name__}; it knows {known};"
                f" add yours by {cls.__name__}.register"
            )
        return converter(instance, *args, **kwargs)


def make_int_box(box: torch.Tensor) -> IntTupleBox:
    """Cut the four numbers of a box down to whole ones."""
    x, y, w, h = box.long().tolist()
    return x, y, w, h
