"""The colour changes of SSD: brightness, contrast, saturation, hue, each half of the time.

Liu et al., "SSD: Single Shot MultiBox Detector" (2016), https://arxiv.org/abs/1512.02325, as its
public code draws them.
"""

import random

import numpy as np

from retinue.data.transforms import Transform
from retinue.utils.errors import InputError

__all__ = ["ColorAugSSDTransform"]


class ColorAugSSDTransform(Transform):
    """Random changes of colour, drawn anew for each image from Python's ``random``.

    Hue is measured in steps of two degrees, [0, 180), saturation and value in [0, 255].

    Args:
        img_format: ``"BGR"`` or ``"RGB"``.
        brightness_delta: most that is added to every channel, or taken from it.
        contrast_low: least that all channels are multiplied by.
        contrast_high: most.
        saturation_low: least that the saturation is multiplied by.
        saturation_high: most.
        hue_delta: most that the hue is turned by, either way.

    Raises:
        InputError: If ``img_format`` is neither.
    """

    img_format: str
    brightness_delta: float
    contrast_low: float
    contrast_high: float
    saturation_low: float
    saturation_high: float
    hue_delta: int

    def __init__(
        self,
        img_format: str,
        brightness_delta: float = 32,
        contrast_low: float = 0.5,
        contrast_high: float = 1.5,
        saturation_low: float = 0.5,
        saturation_high: float = 1.5,
        hue_delta: int = 18,
    ) -> None:
        super().__init__()
        if img_format not in ("BGR", "RGB"):
            raise InputError(
                f"ColorAugSSDTransform: img_format must be 'BGR' or 'RGB'; got {img_format!r}"
            )
        self.is_rgb = img_format == "RGB"
        self.img_format = img_format
        self.brightness_delta = brightness_delta
        self.contrast_low, self.contrast_high = contrast_low, contrast_high
        self.saturation_low, self.saturation_high = saturation_low, saturation_high
        self.hue_delta = hue_delta

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        """Return points as they are."""
        return coords

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        """Return a label map as it is."""
        return segmentation

    def apply_image(self, img: np.ndarray, interp: str | None = None) -> np.ndarray:
        """Change the colours of an ``(H, W, 3)`` uint8 image."""
        img = img[:, :, ::-1] if self.is_rgb else img
        img = self.brightness(img)
        if random.randrange(2):
            steps = (self.contrast, self.saturation, self.hue)
        else:
            steps = (self.saturation, self.hue, self.contrast)
        for step in steps:
            img = step(img)
        return img[:, :, ::-1] if self.is_rgb else img

    def convert(self, img: np.ndarray, alpha: float = 1, beta: float = 0) -> np.ndarray:
        """Return ``alpha * img + beta`` within [0, 255], cut to uint8."""
        return (img.astype(np.float32) * alpha + beta).clip(0, 255).astype(np.uint8)

    def brightness(self, img: np.ndarray) -> np.ndarray:
        """Add the same to every channel, half of the time."""
        if not random.randrange(2):
            return img
        return self.convert(img, beta=random.uniform(-self.brightness_delta, self.brightness_delta))

    def contrast(self, img: np.ndarray) -> np.ndarray:
        """Multiply every channel by the same, half of the time."""
        if not random.randrange(2):
            return img
        return self.convert(img, alpha=random.uniform(self.contrast_low, self.contrast_high))

    def saturation(self, img: np.ndarray) -> np.ndarray:
        """Multiply the saturation, half of the time."""
        if not random.randrange(2):
            return img
        hue, saturation, value = bgr_to_hsv(img)
        factor = random.uniform(self.saturation_low, self.saturation_high)
        return hsv_to_bgr(hue, (saturation * factor).clip(0, 255), value)

    def hue(self, img: np.ndarray) -> np.ndarray:
        """Turn the hue, half of the time."""
        if not random.randrange(2):
            return img
        hue, saturation, value = bgr_to_hsv(img)
        turned = (hue + random.randint(-self.hue_delta, self.hue_delta)) % 180
        return hsv_to_bgr(turned, saturation, value)


def bgr_to_hsv(img: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Split an ``(H, W, 3)`` uint8 image into hue [0, 180), saturation and value [0, 255], float32.

    The formulas are those of a cylinder around the grey axis; grey has hue and saturation 0.
    """
    blue, green, red = np.moveaxis(img.astype(np.float32), 2, 0)
    value, least = img.max(axis=2).astype(np.float32), img.min(axis=2).astype(np.float32)
    spread = value - least
    safe = np.maximum(spread, 1)  # integers: 0 or at least 1
    sixth = np.select(
        [value == red, value == green],
        [(green - blue) / safe % 6, (blue - red) / safe + 2],
        (red - green) / safe + 4,
    )
    hue = np.where(spread > 0, 30 * sixth, 0).astype(np.float32)
    return hue, 255 * spread / np.maximum(value, 1), value


def hsv_to_bgr(hue: np.ndarray, saturation: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Undo :func:`bgr_to_hsv`, to the nearest uint8."""
    spread = value * saturation / 255

    def channel(offset: int) -> np.ndarray:
        k = (offset + hue / 30) % 6
        return value - spread * np.clip(np.minimum(k, 4 - k), 0, 1)

    bgr = np.stack([channel(1), channel(3), channel(5)], axis=2)
    return np.rint(bgr).clip(0, 255).astype(np.uint8)
