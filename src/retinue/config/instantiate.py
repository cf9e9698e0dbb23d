"""Making the objects that a lazy config describes."""

from __future__ import annotations

import dataclasses
import inspect
import logging
from collections.abc import Iterable, Mapping
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from retinue.utils.errors import InputError, unknown_name
from retinue.utils.registry import _convert_target_to_string, locate

__all__ = ["dump_dataclass", "instantiate"]


def dump_dataclass(obj: Any) -> dict[str, Any]:
    """Describe an instance of a dataclass as a node that ``instantiate`` makes it from.

    Raises:
        InputError: If ``obj`` is a class, or no dataclass.
    """
    if not dataclasses.is_dataclass(obj) or isinstance(obj, type):
        raise InputError(f"dump_dataclass: expected an instance of a dataclass; got {obj!r}")
    node: dict[str, Any] = {"_target_": _convert_target_to_string(type(obj))}
    for field in dataclasses.fields(obj):
        node[field.name] = _dump_dataclasses_in(getattr(obj, field.name))
    return node


def _dump_dataclasses_in(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return dump_dataclass(value)
    if isinstance(value, (list, tuple)):
        return [_dump_dataclasses_in(item) for item in value]
    return value


def instantiate(cfg: Any) -> Any:
    """Call the ``_target_`` of each node with the node's other entries, innermost first.

    Args:
        cfg: a node with ``_target_`` (a callable, its dotted name, or a node that makes one), a
            list of nodes, or anything else, which is returned as it is.

    Raises:
        InputError: If a target cannot be called.
        ImportError: If a target's name cannot be found.

    Example:
        >>> instantiate({"_target_": "datetime.timedelta", "hours": 2})
        datetime.timedelta(seconds=7200)
    """
    if isinstance(cfg, ListConfig):
        return ListConfig([instantiate(item) for item in cfg], flags={"allow_objects": True})
    if isinstance(cfg, list):
        return [instantiate(item) for item in cfg]
    if isinstance(cfg, DictConfig) and dataclasses.is_dataclass(cfg._metadata.object_type):
        return OmegaConf.to_object(cfg)
    if isinstance(cfg, Mapping) and "_target_" in cfg:
        arguments = {name: instantiate(value) for name, value in cfg.items()}
        return _call(arguments.pop("_target_"), arguments)
    return cfg


def _call(target: Any, arguments: dict[str, Any]) -> Any:
    function = locate(target) if isinstance(target, str) else target
    if not callable(function):
        raise InputError(f"_target_: expected something to call; got {target!r}")
    try:
        return function(**arguments)
    except TypeError:
        name = target if isinstance(target, str) else getattr(target, "__qualname__", repr(target))
        logging.getLogger(__name__).error(
            "instantiate: calling %s with %s failed%s",
            name,
            ", ".join(arguments) or "no arguments",
            _misspelt(function, arguments),
        )
        raise


def _misspelt(function: Any, arguments: Iterable[str]) -> str:
    """Say which arguments the function doesn't take, and what may have been meant."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # a built-in that doesn't tell
        return ""
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return ""
    unknown = [
        str(unknown_name("argument", a, parameters)) for a in arguments if a not in parameters
    ]
    return ": " + "; ".join(unknown) if unknown else ""
