"""Drawing on arrays ``(H, W, 3)`` uint8, in place, with Pillow; and colour maps.

Colours are in the array's own order, BGR in this project.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image as PILImage
from PIL import ImageDraw
from torch.nn import functional as F

from retinue.utils.errors import unknown_name

__all__ = ["JET", "PARULA", "apply_colormap", "draw", "paste", "resize"]

# OpenCV's numbers.
JET, PARULA = 2, 12

# Every fourth colour, and the last, of MATLAB's map of 64: red, green, blue in thousandths.
_PARULA = np.array(
    [
        (208, 166, 529),
        (196, 264, 728),
        (12, 388, 882),
        (50, 459, 864),
        (79, 520, 831),
        (34, 597, 820),
        (23, 654, 777),
        (84, 693, 706),
        (218, 725, 619),
        (395, 746, 524),
        (571, 748, 449),
        (718, 741, 390),
        (851, 730, 336),
        (974, 731, 267),
        (988, 807, 179),
        (959, 895, 113),
        (976, 983, 54),
    ]
)


def _parula(x: np.ndarray) -> np.ndarray:
    at = np.append(np.arange(16) * 4, 63) / 63
    return np.stack([np.interp(x, at, channel / 1000) for channel in _PARULA.T], axis=-1)


def _jet(x: np.ndarray) -> np.ndarray:
    return np.clip(1.5 - np.abs(4 * x[..., None] - np.array([3, 2, 1])), 0, 1)


COLORMAPS: dict[int, Callable[[np.ndarray], np.ndarray]] = {JET: _jet, PARULA: _parula}


def apply_colormap(values: np.ndarray, number: int) -> np.ndarray:
    """Colour values of 0 to 255: ``(..., 3)`` uint8 BGR.

    Args:
        values: of any shape.
        number: ``JET`` or ``PARULA``.

    Raises:
        UnknownNameError: If it is another.
    """
    if number not in COLORMAPS:
        raise unknown_name("colour map", str(number), [f"{JET} (jet)", f"{PARULA} (parula)"])
    rgb = COLORMAPS[number](np.asarray(values, dtype=float) / 255)
    return (rgb[..., ::-1] * 255).round().astype(np.uint8)


def draw(image: np.ndarray, paint: Callable[[Any], None]) -> np.ndarray:
    """Call ``paint`` with Pillow's ``ImageDraw`` of an image; return the image, changed."""
    picture = PILImage.fromarray(np.ascontiguousarray(image))
    paint(ImageDraw.Draw(picture))
    image[:] = np.asarray(picture)
    return image


def resize(values: np.ndarray, size_hw: tuple[int, int], *, smooth: bool) -> np.ndarray:
    """Stretch ``(H, W)`` to another size, by the nearest values or by interpolation."""
    if values.shape == size_hw:
        return values
    tensor = torch.from_numpy(np.array(values, dtype=np.float32))[None, None]
    options: dict[str, Any] = {"mode": "bilinear", "align_corners": False} if smooth else {}
    return F.interpolate(tensor, size_hw, **options)[0, 0].numpy().astype(values.dtype)


def paste(image: np.ndarray, box_xywh: Any, blend: Callable[[np.ndarray, Any], np.ndarray]) -> None:
    """Replace what an image shows in a box, in place, as far as the box lies in the image.

    Args:
        image: ``(H, W, 3)``.
        box_xywh: in whole pixels.
        blend: given that part and the slices, (rows, columns), of the box that it is.
    """
    x, y, w, h = (int(number) for number in box_xywh)
    y0, y1 = max(y, 0), min(y + h, image.shape[0])
    x0, x1 = max(x, 0), min(x + w, image.shape[1])
    if y1 > y0 and x1 > x0:
        part = slice(y0 - y, y1 - y), slice(x0 - x, x1 - x)
        image[y0:y1, x0:x1] = blend(image[y0:y1, x0:x1], part)
