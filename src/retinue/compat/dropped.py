"""What Python, numpy, Pillow and PyTorch have dropped since detectron2's days.

Programs of that time fail on these names first. While the hook is installed they are there again,
under their old meaning; names that the library has by itself stay as they are.

Reading order: put_back, which adds names to one module; PutBackFinder, which does it as soon as a
module is imported; DROPPED_MODULES, which are served whole where they are absent.
"""

from __future__ import annotations

import importlib
import inspect
import math
from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

__all__ = [
    "DROPPED_MODULES",
    "DROPPED_NAMES",
    "PutBackFinder",
    "call_after_loading",
    "is_put_back",
    "put_back",
    "take_away",
]

_ABSTRACT = (
    "Callable", "Hashable", "Iterable", "Iterator", "Mapping", "MutableMapping",
    "MutableSequence", "Sequence", "Set", "Sized",
)  # fmt: skip

DROPPED_NAMES: Mapping[str, Mapping[str, str]] = {
    "PIL.Image": {
        "ANTIALIAS": "PIL.Image:LANCZOS",
        "CUBIC": "PIL.Image:BICUBIC",
        "LINEAR": "PIL.Image:BILINEAR",
    },
    "PIL.ImageDraw": {"ImageDraw.textsize": f"{__name__}:_size_of_text"},
    "PIL.ImageFont": {"FreeTypeFont.getsize": f"{__name__}:_size_in_font"},
    "collections": {name: f"collections.abc:{name}" for name in _ABSTRACT},
    "fractions": {"gcd": "math:gcd"},
    "inspect": {"getargspec": f"{__name__}:_argument_names"},
    "numpy": {
        **{name: f"builtins:{name}" for name in ("bool", "complex", "float", "int", "object")},
        "Inf": "math:inf",
        "NaN": "math:nan",
        "alltrue": "numpy:all",
        "complex_": "numpy:complex128",
        "cumproduct": "numpy:cumprod",
        "float_": "numpy:float64",
        "infty": "math:inf",
        "long": "builtins:int",
        "product": "numpy:prod",
        "sometrue": "numpy:any",
        "str": "builtins:str",
        "unicode_": "numpy:str_",
    },
    "torchvision.ops": {"_new_empty_tensor": f"{__name__}:_empty_tensor"},
    "torchvision.ops.misc": {
        "_new_empty_tensor": f"{__name__}:_empty_tensor",
        "_output_size": f"{__name__}:_size_after_scaling",
    },
}
"""Module -> name, or ``Class.name`` -> what it was, as ``"module:attribute"``."""

DROPPED_MODULES: Mapping[str, str] = {
    "pkg_resources": "retinue.compat.package_resources",
    "torch._six": "retinue.compat.torch_six",
    "torchvision.models.utils": "torch.hub",
}
"""Module -> the one that stands in for it where it is absent."""

_added: list[tuple[Any, str]] = []


def _size_in_font(font: Any, text: str, *args: Any, **kwargs: Any) -> tuple[int, int]:
    """Return width and height of a text in pixels; the height counts from the line's top."""
    left, _, right, bottom = font.getbbox(text, *args, **kwargs)
    return right - left, bottom


def _size_of_text(draw: Any, text: str, font: Any = None, *args: Any) -> tuple[int, int]:
    left, _, right, bottom = draw.multiline_textbbox((0, 0), text, font, None, *args)
    return right - left, bottom


_ArgSpec = namedtuple("_ArgSpec", ("args", "varargs", "keywords", "defaults"))


def _argument_names(func: Callable[..., Any]) -> tuple[Any, ...]:
    """Return a function's ``(args, varargs, keywords, defaults)``, by position or by name."""
    found = inspect.getfullargspec(func)
    return _ArgSpec(found.args, found.varargs, found.varkw, found.defaults)


def _empty_tensor(x: Any, shape: Sequence[int]) -> Any:
    """Return a tensor of a shape in which a side is zero."""
    return x.new_empty(list(shape))


def _size_after_scaling(
    dim: int, input: Any, size: int | Sequence[int] | None, scale_factor: float | Sequence[float]
) -> list[int]:
    """Return the last ``dim`` sides that interpolation would give a tensor ``(N, C, ...)``."""
    if size is not None:
        return [size] * dim if isinstance(size, int) else list(size)
    scales = [scale_factor] * dim if isinstance(scale_factor, int | float) else scale_factor
    sides = zip(input.shape[2 : 2 + dim], scales, strict=True)
    return [math.floor(side * scale) for side, scale in sides]


def is_put_back(name: str) -> bool:
    """Say whether the hook brings back what a dotted name begins with.

    >>> is_put_back("numpy.float"), is_put_back("torch._six.inf"), is_put_back("numpy.float64")
    (True, True, False)
    """
    for module, names in DROPPED_NAMES.items():
        rest = name.removeprefix(f"{module}.")
        if rest != name and any(f"{rest}.".startswith(f"{dropped}.") for dropped in names):
            return True
    return any(f"{name}.".startswith(f"{module}.") for module in DROPPED_MODULES)


def put_back(module: ModuleType) -> None:
    """Give a module, and its classes, the names that it has dropped."""
    for name, target in DROPPED_NAMES[module.__name__].items():
        class_name, _, member = name.rpartition(".")
        owner = getattr(module, class_name) if class_name else module
        if member not in vars(owner):
            home, _, attribute = target.partition(":")
            setattr(owner, member, getattr(importlib.import_module(home), attribute))
            _added.append((owner, member))


def take_away() -> None:
    """Undo ``put_back``."""
    for owner, name in _added:
        delattr(owner, name)
    _added.clear()


def call_after_loading(spec: ModuleSpec, function: Callable[[ModuleType], Any]) -> ModuleSpec:
    """Let a function see the module of a spec once it is loaded; return the spec."""
    loader: Any = spec.loader
    if loader is not None:
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            del loader.exec_module  # from now on it is the class's again
            execute(module)
            function(module)

        loader.exec_module = exec_module
    return spec


class PutBackFinder(MetaPathFinder):
    """Lets modules that are imported later put back what they have dropped."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in DROPPED_NAMES:
            return None
        spec = PathFinder.find_spec(fullname, path)
        return spec and call_after_loading(spec, put_back)
