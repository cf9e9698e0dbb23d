"""Colours: reading them in any of matplotlib's spellings, and a palette that tells objects apart.

A colour is three floats in [0, 1], red, green, blue.
"""

from __future__ import annotations

import colorsys
import random
from collections.abc import Sequence
from typing import Any, TypeAlias

from PIL import ImageColor

from retinue.utils.errors import InputError, unknown_name

__all__ = [
    "PALETTE",
    "RGB",
    "contrasting",
    "jitter",
    "palette_color",
    "shade",
    "to_bytes",
    "to_rgb",
]

RGB: TypeAlias = tuple[float, float, float]

# Bright enough for dark photographs, dark enough for light ones; neighbours differ in hue.
PALETTE = (
    "#ff5a5f", "#2a9df4", "#2fbf71", "#ffb020", "#a66bff", "#ff6fb5", "#00bcd4", "#b4d335",
    "#ff8a3d", "#6c7bff", "#e0457b", "#14a76c", "#d9a400", "#6ec6ff", "#c86bfa", "#e5674f",
    "#38c9a4", "#8f9bff", "#ffd54a", "#ef8f8f",
)  # fmt: skip

_LETTERS: dict[str, RGB] = {
    "b": (0.0, 0.0, 1.0),
    "g": (0.0, 0.5, 0.0),
    "r": (1.0, 0.0, 0.0),
    "c": (0.0, 0.75, 0.75),
    "m": (0.75, 0.0, 0.75),
    "y": (0.75, 0.75, 0.0),
    "k": (0.0, 0.0, 0.0),
    "w": (1.0, 1.0, 1.0),
}


def _is_grey_level(text: str) -> bool:
    try:
        return 0.0 <= float(text) <= 1.0
    except ValueError:
        return False


def to_rgb(color: Any) -> RGB:
    """Read a colour: a name, a letter, ``"#rrggbb"``, ``"C3"``, a grey level, or 3 or 4 numbers.

    Raises:
        UnknownNameError: (a ``ValueError``) for a name that is none.
        InputError: If numbers are not 3 or 4 in [0, 1].

    Example:
        >>> to_rgb("#ff0000"), to_rgb("w"), to_rgb((0, 0.5, 1))
        ((1.0, 0.0, 0.0), (1.0, 1.0, 1.0), (0.0, 0.5, 1.0))
    """
    if isinstance(color, str):
        return _named(color)
    values = [float(v) for v in color]
    if len(values) not in (3, 4) or not all(-1e-6 <= v <= 1 + 1e-6 for v in values):
        raise InputError(f"a colour must be 3 or 4 numbers from 0 to 1; got {values}")
    red, green, blue = (min(max(v, 0.0), 1.0) for v in values[:3])
    return red, green, blue


def _named(color: str) -> RGB:
    if color in _LETTERS:
        return _LETTERS[color]
    if color[:1] == "C" and color[1:].isdigit():
        return palette_color(int(color[1:]))
    if _is_grey_level(color):
        return (float(color),) * 3
    try:
        red, green, blue = ImageColor.getrgb(color.removeprefix("tab:"))[:3]
    except ValueError:
        raise unknown_name("colour", color, ImageColor.colormap) from None
    return red / 255, green / 255, blue / 255


def to_bytes(color: Any) -> tuple[int, int, int]:
    """Read a colour as three numbers in 0..255."""
    red, green, blue = (round(255 * v) for v in to_rgb(color))
    return red, green, blue


def palette_color(index: int) -> RGB:
    """Return colour number ``index`` of an endless palette."""
    if index < len(PALETTE):
        red, green, blue = ImageColor.getrgb(PALETTE[index])[:3]
        return red / 255, green / 255, blue / 255
    hue = (index * 0.61803398875) % 1.0  # multiples of the golden ratio never come close
    return colorsys.hls_to_rgb(hue, 0.62 if index % 2 else 0.5, 0.75)


def shade(color: Any, factor: float) -> RGB:
    """Make a colour lighter (``factor`` up to 1) or darker (down to -1).

    Raises:
        InputError: If ``factor`` is outside [-1, 1].
    """
    if not -1.0 <= factor <= 1.0:
        raise InputError(f"brightness factor must be in [-1, 1]; got {factor}")
    hue, lightness, saturation = colorsys.rgb_to_hls(*to_rgb(color))
    red, green, blue = colorsys.hls_to_rgb(
        hue, min(max(lightness * (1 + factor), 0.0), 1.0), saturation
    )
    return to_rgb([min(max(v, 0.0), 1.0) for v in (red, green, blue)])


def jitter(color: Any, generator: random.Random) -> RGB:
    """Vary a colour so that two objects of one class can be told apart."""
    hue, lightness, saturation = colorsys.rgb_to_hls(*to_rgb(color))
    return to_rgb(
        colorsys.hls_to_rgb(
            (hue + generator.uniform(-0.04, 0.04)) % 1.0,
            min(max(lightness + generator.uniform(-0.14, 0.14), 0.2), 0.85),
            saturation,
        )
    )


def contrasting(color: Sequence[float]) -> RGB:
    """Return black or white, whichever reads better on ``color`` (WCAG relative luminance)."""
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in to_rgb(color)]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return (0.0, 0.0, 0.0) if luminance > 0.179 else (1.0, 1.0, 1.0)
