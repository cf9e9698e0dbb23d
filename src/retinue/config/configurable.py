"""``configurable``: components with explicit arguments that can also be built from a config."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, overload

from omegaconf import DictConfig
from yacs.config import CfgNode

from retinue.utils.errors import InputError

__all__ = ["configurable"]

F = TypeVar("F", bound=Callable[..., Any])


@overload
def configurable(init_func: F, *, from_config: None = None) -> F: ...
@overload
def configurable(
    init_func: None = None, *, from_config: Callable[..., dict[str, Any]] | None = None
) -> Callable[[F], F]: ...
def configurable(
    init_func: Callable[..., Any] | None = None,
    *,
    from_config: Callable[..., dict[str, Any]] | None = None,
) -> Any:
    """Let a class or function with explicit arguments also be called with a config.

    A class decorates ``__init__`` and has a classmethod ``from_config(cls, cfg, ...)`` that returns
    the arguments. A function is given its ``from_config``. The call counts as one with a config if
    its first argument, or the one called ``cfg``, is a ``CfgNode`` or ``DictConfig``. Arguments
    that ``from_config`` does not take go straight to the decorated function, by keyword only.

    Example:
        >>> class Head:
        ...     @configurable
        ...     def __init__(self, dim, bias=True):
        ...         self.dim, self.bias = dim, bias
        ...     @classmethod
        ...     def from_config(cls, cfg):
        ...         return {"dim": cfg.DIM}
        >>> Head(4).dim, Head(CfgNode({"DIM": 8}), bias=False).dim
        (4, 8)
    """
    if init_func is not None:
        if (
            not inspect.isfunction(init_func)
            or init_func.__name__ != "__init__"
            or from_config is not None
        ):
            raise InputError(
                "@configurable: expected an __init__ below it; for a function write"
                " @configurable(from_config=...)"
            )
        return _configurable_init(init_func)
    if from_config is None:
        return configurable
    if not inspect.isfunction(from_config):
        raise InputError(f"@configurable: from_config must be a function; got {from_config!r}")
    return functools.partial(_configurable_function, from_config)


def _configurable_init(init: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(init)
    def wrapped(self: Any, *args: Any, **kwargs: Any) -> None:
        translate = getattr(type(self), "from_config", None)
        if not inspect.ismethod(translate):
            kind = AttributeError if translate is None else TypeError
            raise kind(
                f"{type(self).__name__}: @configurable expects a classmethod from_config(cls, cfg);"
                f" got {translate!r}"
            )
        if _called_with_cfg(args, kwargs):
            init(self, **_explicit_arguments(translate, args, kwargs))
        else:
            init(self, *args, **kwargs)

    return wrapped


def _configurable_function(
    from_config: Callable[..., dict[str, Any]], function: Callable[..., Any]
) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if _called_with_cfg(args, kwargs):
            return function(**_explicit_arguments(from_config, args, kwargs))
        return function(*args, **kwargs)

    wrapped.from_config = from_config  # type: ignore[attr-defined]
    return wrapped


def _called_with_cfg(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    candidates = (*args[:1], kwargs.get("cfg"))
    return any(isinstance(c, (CfgNode, DictConfig)) for c in candidates)


def _explicit_arguments(
    from_config: Callable[..., dict[str, Any]], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, Any]:
    parameters = inspect.signature(from_config).parameters
    if next(iter(parameters), None) != "cfg":
        where = getattr(from_config, "__self__", from_config)
        raise TypeError(
            f"{getattr(where, '__name__', where)}: the first argument of from_config must be called"
            f" cfg; got {list(parameters)}"
        )
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    if any(p.kind in variadic for p in parameters.values()):
        return from_config(*args, **kwargs)
    taken = {name: value for name, value in kwargs.items() if name in parameters}
    others = {name: value for name, value in kwargs.items() if name not in parameters}
    return {**from_config(*args, **taken), **others}
