"""Objects of ours, of detectron2 and of a few others that pickles may hold, made from their state.

A pickle names classes and says what state their objects have. Here each name stands for a
``StandIn`` that collects the state; afterwards ``StandIn.finish`` makes our object of it: fields
are checked against the table below and set one by one. No method of the class is called.
"""

from __future__ import annotations

import enum
import importlib
from collections.abc import Callable, Mapping
from typing import Any

import torch

from retinue.utils.errors import InputError, expect_shape

__all__ = ["STAND_INS", "StandIn"]

Check = Callable[[str, Any], None]


def _tensor(*shape: int | str) -> Check:
    def check(what: str, value: Any) -> None:
        if not isinstance(value, torch.Tensor):
            raise InputError(f"{what} must be a tensor; got {type(value).__name__}")
        expect_shape(what, value, shape)

    return check


def _is(*kinds: type) -> Check:
    def check(what: str, value: Any) -> None:
        if not isinstance(value, kinds):
            names = " or ".join(kind.__name__ for kind in kinds)
            raise InputError(f"{what} must be {names}; got {type(value).__name__}")

    return check


def _columns(what: str, value: Any) -> None:
    _is(dict)(what, value)
    lengths = {str(key): len(column) for key, column in value.items()}
    if len(set(lengths.values())) > 1:
        raise InputError(f"{what} must have the same length each; got {lengths}")


_FIELDS: Mapping[str, Mapping[str, Check]] = {
    "structures.boxes.Boxes": {"tensor": _tensor("N", 4)},
    "structures.rotated_boxes.RotatedBoxes": {"tensor": _tensor("N", 5)},
    "structures.keypoints.Keypoints": {"tensor": _tensor("N", "K", 3)},
    "structures.masks.BitMasks": {
        "tensor": _tensor("N", "H", "W"),
        "image_size": _is(tuple, list),
    },
    "structures.masks.ROIMasks": {"tensor": _tensor("N", "H", "W")},
    "structures.masks.PolygonMasks": {"polygons": _is(list)},
    "structures.image_list.ImageList": {"tensor": _is(torch.Tensor), "image_sizes": _is(list)},
    "structures.instances.Instances": {"_image_size": _is(tuple, list), "_fields": _columns},
}
_ENUMS = ("structures.boxes.BoxMode",)
_CONFIGS = ("retinue.config.config", "detectron2.config.config", "fvcore.common.config")
_CONFIG_FLAGS = ("__immutable__", "__new_allowed__", "__deprecated_keys__", "__renamed_keys__")


class StandIn:
    """What a pickle says of one object."""

    home = ""  # "module:Class" of what is made of it

    def __new__(cls, *arguments: Any, **_: Any) -> StandIn:
        self = object.__new__(cls)
        self.arguments = arguments
        self.state = {}
        return self

    def __init__(self, *_: Any, **__: Any) -> None: ...

    arguments: tuple[Any, ...]
    state: Any

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def parts(self) -> list[Any]:
        """Return the values inside, which the caller finishes."""
        return [self.state, self.arguments]

    def finish(self, parts: list[Any]) -> Any:
        """Make the object.

        Raises:
            InputError: If the state is not one that such an object has.
        """
        raise NotImplementedError

    def sketch(self, parts: list[Any]) -> Any:
        """Return what the object holds, instead of making it."""
        return parts[0] or list(parts[1])


class _Structure(StandIn):
    fields: Mapping[str, Check]

    def finish(self, parts: list[Any]) -> Any:
        state, arguments = parts
        name = type(self).__name__
        if arguments or not isinstance(state, dict) or set(state) != set(self.fields):
            got = sorted(map(str, state)) if isinstance(state, dict) else type(state).__name__
            raise InputError(f"{name}: expected the fields {sorted(self.fields)}; got {got}")
        made = object.__new__(_class_at(self.home))
        for field, check in self.fields.items():
            check(f"{name}: {field}", state[field])
            made.__dict__[field] = state[field]
        return made


class _Enum(StandIn):
    def finish(self, parts: list[Any]) -> Any:
        kind = _class_at(self.home)
        assert issubclass(kind, enum.Enum)
        values = {member.value: member for member in kind}
        (value,) = parts[1] if len(parts[1]) == 1 else (None,)
        if not isinstance(value, int | str) or value not in values:
            raise InputError(f"{kind.__name__}: expected one of {sorted(values)}; got {value!r}")
        return values[value]


class _Config(StandIn):
    """A config node: a mapping with flags."""

    def __new__(cls, *arguments: Any, **kwargs: Any) -> _Config:
        self: Any = super().__new__(cls, *arguments, **kwargs)
        self.items = {}
        return self

    items: dict[Any, Any]

    def __setitem__(self, key: Any, value: Any) -> None:
        self.items[key] = value

    def parts(self) -> list[Any]:
        return [self.state, self.items]

    def finish(self, parts: list[Any]) -> Any:
        flags, items = parts
        made = dict.__new__(_class_at(self.home))
        if not isinstance(flags, dict) or not all(isinstance(key, str) for key in items):
            raise InputError("CfgNode: expected keys that are strings, and flags")
        dict.update(made, items)
        known = {key: flags[key] for key in _CONFIG_FLAGS if key in flags}
        defaults = dict(zip(_CONFIG_FLAGS, (False, False, set(), {}), strict=True))
        made.__dict__.update(defaults | known | {"_path": "", "_reviewed": frozenset()})
        return made

    def sketch(self, parts: list[Any]) -> Any:
        return parts[1]


class _Attributes(StandIn):
    """Any bag of attributes: a dict is made of it."""

    def finish(self, parts: list[Any]) -> Any:
        return dict(parts[0]) if isinstance(parts[0], dict) else {}


class _Path(StandIn):
    def finish(self, parts: list[Any]) -> Any:
        return "/".join(map(str, parts[1])).replace("//", "/")

    sketch = finish


def _class_at(home: str) -> Any:
    module, _, name = home.partition(":")
    return getattr(importlib.import_module(module), name)


def _make(base: type[StandIn], name: str, **attributes: Any) -> type[StandIn]:
    return type(name, (base,), attributes)


def _table() -> dict[str, type[StandIn]]:
    found: dict[str, type[StandIn]] = {}
    for full_name in (*_FIELDS, *_ENUMS):
        module, _, name = full_name.rpartition(".")
        base: type[StandIn] = _Structure if full_name in _FIELDS else _Enum
        made = _make(base, name, home=f"retinue.{module}:{name}", fields=_FIELDS.get(full_name, {}))
        found |= {f"{package}.{full_name}": made for package in ("retinue", "detectron2")}
    config = _make(_Config, "CfgNode", home="retinue.config.config:CfgNode")
    found |= {f"{module}.CfgNode": config for module in (*_CONFIGS, "yacs.config")}
    found["argparse.Namespace"] = _make(_Attributes, "Namespace")
    for name in ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath"):
        found |= {
            f"{module}.{name}": _make(_Path, name) for module in ("pathlib", "pathlib._local")
        }
    return found


STAND_INS: Mapping[str, type[StandIn]] = _table()
"""Full name in a pickle -> what stands for it."""
