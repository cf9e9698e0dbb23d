"""Transforms of colours, which leave the geometry alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from retinue.data.transforms.base import NoOpTransform, Transform

__all__ = ["BlendTransform", "ColorTransform", "PILColorTransform"]


class BlendTransform(Transform):
    """Change colours to ``src_weight * src_image + dst_weight * img``.

    Args:
        src_image: a number, or an array that broadcasts against the image.
        src_weight: weight of ``src_image``.
        dst_weight: weight of the image.
    """

    def __init__(self, src_image: np.ndarray | float, src_weight: float, dst_weight: float) -> None:
        super().__init__()
        self._set_attributes(locals())

    def apply_image(self, img: np.ndarray, interp: str | None = None) -> np.ndarray:
        floats = img.astype(np.float32) if img.dtype == np.uint8 else img
        mixed: np.ndarray = self.src_weight * self.src_image + self.dst_weight * floats
        return np.clip(mixed, 0, 255).astype(np.uint8) if img.dtype == np.uint8 else mixed

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        return coords

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        return segmentation

    def inverse(self) -> Transform:
        return NoOpTransform()


class ColorTransform(Transform):
    """Change colours by a function from image array to image array; geometry stays.

    Raises:
        ValueError: If ``op`` can't be called.
    """

    op: Callable[[Any], np.ndarray]

    def __init__(self, op: Callable[[Any], Any]) -> None:
        if not callable(op):
            raise ValueError(
                f"{type(self).__name__}: op must be a function of an image; got {op!r}"
            )
        super().__init__()
        self.op = op

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        return self.op(img)

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        return coords

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        return segmentation

    def inverse(self) -> Transform:
        return NoOpTransform()


class PILColorTransform(ColorTransform):
    """Change colours by a function from Pillow image to Pillow image."""

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        return np.asarray(self.op(Image.fromarray(img)))
