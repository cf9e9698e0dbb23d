"""What projects of detectron2's time use that today's Python and libraries have dropped.

Prefixes of dotted names, with what to write instead. It has nothing to do with detectron2, but a
project that uses one of them fails on it first.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["what_instead"]

_MAPPINGS = ("Callable", "Iterable", "Iterator", "Mapping", "MutableMapping", "Sequence", "Sized")

_INSTEAD: Mapping[str, str] = {
    **{
        f"numpy.{name}": f"removed in numpy 1.24: write {name}"
        for name in ("complex", "float", "int", "object", "str")
    },
    "numpy.bool": "removed in numpy 1.24, in numpy 2 it is numpy.bool_: write bool",
    "numpy.long": "removed in numpy 1.24, in numpy 2 it is another type: write int",
    "numpy.float_": "removed in numpy 2: write numpy.float64",
    "numpy.unicode_": "removed in numpy 2: write numpy.str_",
    "numpy.product": "removed in numpy 2: write numpy.prod",
    "numpy.cumproduct": "removed in numpy 2: write numpy.cumprod",
    "numpy.alltrue": "removed in numpy 2: write numpy.all",
    "numpy.sometrue": "removed in numpy 2: write numpy.any",
    "numpy.Inf": "removed in numpy 2: write numpy.inf",
    "numpy.NaN": "removed in numpy 2: write numpy.nan",
    "PIL.Image.ANTIALIAS": "removed in Pillow 10: write Image.LANCZOS",
    "PIL.Image.CUBIC": "removed in Pillow 10: write Image.BICUBIC",
    "PIL.Image.LINEAR": "removed in Pillow 10: write Image.BILINEAR",
    "PIL.ImageFont.FreeTypeFont.getsize": "removed in Pillow 10: use getbbox",
    "torch._six": "removed in PyTorch 2: for string_classes write str, for inf math.inf",
    "torchvision.models.utils": "removed in torchvision 0.13: use torch.hub",
    "pkg_resources": "gone from setuptools 82: use importlib.resources or importlib.metadata",
    "distutils": "removed in Python 3.12: use setuptools, sysconfig or packaging.version",
    "imp": "removed in Python 3.12: use importlib",
    "inspect.getargspec": "removed in Python 3.11: use inspect.signature",
    "fractions.gcd": "removed in Python 3.9: use math.gcd",
    **{
        f"collections.{name}": f"removed in Python 3.10: use collections.abc.{name}"
        for name in _MAPPINGS
    },
}


def what_instead(name: str) -> str | None:
    """Return what to do about a dotted name that is no more, or None.

    >>> what_instead("PIL.Image.ANTIALIAS"), what_instead("PIL.Image.open")
    ('removed in Pillow 10: write Image.LANCZOS', None)
    """
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        if text := _INSTEAD.get(".".join(parts[:end])):
            return text
    return None
