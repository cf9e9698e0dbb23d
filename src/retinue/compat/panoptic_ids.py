"""``panopticapi.utils``: ids of segments as colours. Data mappers of panoptic projects import it.

The package can't be had from PyPI; the import hook serves these names where it is absent. A
segment's id is R + 256 G + 65536 B: https://cocodataset.org/#format-data, section 4.
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["id2rgb", "rgb2id"]


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
