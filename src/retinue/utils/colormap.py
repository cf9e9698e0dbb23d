"""Colours that are easy to tell apart, for drawing objects and classes.

The table is the one that Detectron draws with, so that pictures look as people know them.
"""

from __future__ import annotations

import random

import numpy as np

__all__ = ["colormap", "random_color", "random_colors"]

# One word a colour: red, green, blue in thousandths, four digits each.
_TABLE = """
    000004470741 085003250098 092906940125 049401840556 046606740188 030107450933 063500780184
    030003000300 060006000600 100000000000 100005000000 074907490000 000010000000 000000001000
    066700001000 033303330000 033306670000 033310000000 066703330000 066706670000 066710000000
    100003330000 100006670000 100010000000 000003330500 000006670500 000010000500 033300000500
    033303330500 033306670500 033310000500 066700000500 066703330500 066706670500 066710000500
    100000000500 100003330500 100006670500 100010000500 000003331000 000006671000 000010001000
    033300001000 033303331000 033306671000 033310001000 066700001000 066703331000 066706671000
    066710001000 100000001000 100003331000 100006671000 033300000000 050000000000 066700000000
    083300000000 100000000000 000001670000 000003330000 000005000000 000006670000 000008330000
    000010000000 000000000167 000000000333 000000000500 000000000667 000000000833 000000001000
    000000000000 014301430143 085708570857 100010001000
"""

_COLORS = (
    np.array([[int(word[i : i + 4]) for i in (0, 4, 8)] for word in _TABLE.split()]) / 1000
).astype(np.float32)


def colormap(rgb: bool = False, maximum: float = 255) -> np.ndarray:
    """Return all colours as ``(74, 3)`` float32 in [0, maximum], in BGR order unless ``rgb``."""
    colors = _COLORS * np.float32(maximum)
    return colors if rgb else colors[:, ::-1]


def random_color(rgb: bool = False, maximum: float = 255) -> np.ndarray:
    """Return one colour of the table, drawn at random: ``(3,)`` float32 in [0, maximum]."""
    colors = colormap(rgb, maximum)
    return colors[np.random.randint(len(colors))]  # noqa: NPY002 - seeded with everything else


def random_colors(N: int, rgb: bool = False, maximum: float = 255) -> list[np.ndarray]:
    """Return ``N`` different colours of the table, drawn at random.

    Raises:
        ValueError: If ``N`` is larger than the table.
    """
    colors = colormap(rgb, maximum)
    return [colors[i] for i in random.sample(range(len(colors)), N)]
