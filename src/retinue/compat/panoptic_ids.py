"""``panopticapi.utils``: ids of segments as colours. Data mappers of panoptic projects import it.

The package can't be had from PyPI; the import hook serves these names where it is absent. A
segment's id is R + 256 G + 65536 B: https://cocodataset.org/#format-data, section 4.

``IdGenerator`` gives segments colours near that of their class, for scripts that write panoptic
pictures; ``save_json`` and ``get_traceback`` are what those scripts use besides.
"""

from __future__ import annotations

import functools
import json
import traceback
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np

from retinue.utils.file_io import atomic_write

__all__ = ["IdGenerator", "get_traceback", "id2rgb", "rgb2id", "save_json"]

F = TypeVar("F", bound=Callable[..., Any])
FARTHEST = 30  # of a segment's colour from its class's, in each channel


def rgb2id(color: Any) -> Any:
    """Return the ids of a picture ``(H, W, 3)``, as int32 ``(H, W)``, or that of one colour.

    >>> rgb2id([1, 2, 0])
    513
    """
    if isinstance(color, np.ndarray) and color.ndim == 3:
        return color.astype(np.int32) @ np.array([1, 256, 65536], dtype=np.int32)
    red, green, blue = (int(value) for value in color)
    return red + 256 * green + 65536 * blue


def id2rgb(id_map: Any) -> Any:
    """Return the picture ``(H, W, 3)`` uint8 of ids ``(H, W)``, or the colour of one id.

    >>> id2rgb(513)
    [1, 2, 0]
    """
    ids = np.asarray(id_map)[..., None] // np.array([1, 256, 65536]) % 256
    return ids.astype(np.uint8) if isinstance(id_map, np.ndarray) else ids.tolist()


class IdGenerator:
    """Colours for segments: a thing's is near its class's and new, stuff has its class's.

    Args:
        categories: of each id, ``{"color": (R, G, B), "isthing": 0 or 1, ...}``.
    """

    def __init__(self, categories: Mapping[int, Mapping[str, Any]]) -> None:
        self.categories = categories
        self._random = np.random.default_rng(0)
        stuff = [tuple(c["color"]) for c in categories.values() if not c["isthing"]]
        self.taken_colors = {(0, 0, 0), *stuff}

    def get_color(self, cat_id: int) -> list[int]:
        """Return a colour for the next segment of a class."""
        category = self.categories[cat_id]
        base = np.array(category["color"])
        color = tuple(base.tolist())
        reach = FARTHEST if category["isthing"] else 0
        while reach and color in self.taken_colors:
            shift = self._random.integers(-reach, reach + 1, 3)
            color = tuple(np.clip(base + shift, 0, 255).tolist())
            reach = min(reach + 1, 255)  # where all near colours are taken
        self.taken_colors.add(color)
        return list(color)

    def get_id(self, cat_id: int) -> int:
        """Return an id for the next segment of a class."""
        return self.get_id_and_color(cat_id)[0]

    def get_id_and_color(self, cat_id: int) -> tuple[int, list[int]]:
        """Return both."""
        color = self.get_color(cat_id)
        return int(rgb2id(color)), color


def save_json(d: Any, file: str) -> None:
    """Write values as JSON."""
    with atomic_write(file, "w") as f:
        json.dump(d, f)


def get_traceback(f: F) -> F:
    """Print a function's errors where they happen; processes of a pool lose the place."""

    @functools.wraps(f)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return f(*args, **kwargs)
        except Exception:
            traceback.print_exc()
            raise

    return wrapped  # type: ignore[return-value]
