"""Stand-ins for names whose package is not installed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["create_dummy_class", "create_dummy_func"]


def _text(name: str, dependency: str | Sequence[str], message: str) -> str:
    missing = dependency if isinstance(dependency, str) else ", ".join(dependency)
    return f"{name} needs {missing}, which cannot be imported. {message}".rstrip()


def create_dummy_class(klass: str, dependency: str, message: str = "") -> type:
    """Make a class called ``klass`` that raises ImportError when it is used.

    Args:
        dependency: the package that is missing.
        message: what to do about it.
    """
    text = _text(klass, dependency, message)

    class _Meta(type):
        def __getattr__(cls, name: str) -> Any:
            raise ImportError(text)

    class _Missing(metaclass=_Meta):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            raise ImportError(text)

    _Missing.__name__ = klass
    return _Missing


def create_dummy_func(
    func: str, dependency: str | Sequence[str], message: str = ""
) -> Callable[..., Any]:
    """Make a function called ``func`` that raises ImportError when it is called.

    Args:
        dependency: the package or packages that are missing.
        message: what to do about it.
    """
    text = _text(func, dependency, message)

    def missing(*args: Any, **kwargs: Any) -> Any:
        raise ImportError(text)

    missing.__name__ = func
    return missing
