"""The augmentations there are: flips, resizing, cropping, rotation; and of colour, elsewhere.

Each draws from ``numpy.random`` in the order that detectron2 draws, so that a seed gives its
numbers. Sizes are (height, width), points and shifts (x, y).
"""
# ruff: noqa: NPY002 - the global generator is part of the interface

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from retinue.data.transforms.augmentation import Augmentation, _transform_to_aug
from retinue.data.transforms.color_augmentation import (
    RandomBrightness,
    RandomContrast,
    RandomLighting,
    RandomSaturation,
)
from retinue.data.transforms.transform import (
    CropTransform,
    ExtentTransform,
    HFlipTransform,
    NoOpTransform,
    PadTransform,
    ResizeTransform,
    RotationTransform,
    Transform,
    TransformList,
    VFlipTransform,
)
from retinue.utils.errors import InputError, unknown_name

__all__ = [
    "FixedSizeCrop",
    "MinIoURandomCrop",
    "RandomApply",
    "RandomBrightness",
    "RandomContrast",
    "RandomCrop",
    "RandomCrop_CategoryAreaConstraint",
    "RandomExtent",
    "RandomFlip",
    "RandomLighting",
    "RandomResize",
    "RandomRotation",
    "RandomSaturation",
    "Resize",
    "ResizeScale",
    "ResizeShortestEdge",
]

_BILINEAR = Image.Resampling.BILINEAR


class RandomApply(Augmentation):
    """Apply another augmentation or transform with probability ``prob``."""

    def __init__(self, tfm_or_aug: Augmentation | Transform, prob: float = 0.5) -> None:
        super().__init__()
        self.aug = _transform_to_aug(tfm_or_aug)
        if not 0.0 <= prob <= 1.0:
            raise InputError(f"RandomApply: prob must be between 0 and 1; got {prob}")
        self.prob = prob

    def get_transform(self, *args: Any) -> Transform:
        return self.aug.get_transform(*args) if self._rand_range() < self.prob else NoOpTransform()

    def __call__(self, aug_input: Any) -> Transform:
        return self.aug(aug_input) if self._rand_range() < self.prob else NoOpTransform()


class RandomFlip(Augmentation):
    """Mirror the image, horizontally or vertically, with probability ``prob``."""

    def __init__(
        self, prob: float = 0.5, *, horizontal: bool = True, vertical: bool = False
    ) -> None:
        super().__init__()
        if horizontal == vertical:
            raise ValueError(
                "RandomFlip: set one of horizontal and vertical; got"
                f" horizontal={horizontal}, vertical={vertical}; for both, use two RandomFlips"
            )
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> Transform:
        height, width = image.shape[:2]
        if self._rand_range() >= self.prob:
            return NoOpTransform()
        return HFlipTransform(width) if self.horizontal else VFlipTransform(height)


class Resize(Augmentation):
    """Resize to ``shape``: height and width, or one number for both."""

    def __init__(self, shape: int | Sequence[int], interp: int = _BILINEAR) -> None:
        shape = (shape, shape) if isinstance(shape, int) else tuple(shape)
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> Transform:
        height, width = image.shape[:2]
        return ResizeTransform(height, width, self.shape[0], self.shape[1], self.interp)


class ResizeShortestEdge(Augmentation):
    """Resize so that the shorter side gets a length and the longer at most ``max_size``.

    Args:
        short_edge_length: ``(min, max)``, both possible, if ``sample_style`` is ``"range"``; the
            lengths to pick from if it is ``"choice"``; or one length. 0 leaves the image as it is.
        max_size: longest allowed side; where it would be passed, the shorter side gets shorter.
        sample_style: ``"range"`` or ``"choice"``.
        interp: Pillow's code for the interpolation.
    """

    def __init__(
        self,
        short_edge_length: int | Sequence[int],
        max_size: int = sys.maxsize,
        sample_style: str = "range",
        interp: int = _BILINEAR,
    ) -> None:
        super().__init__()
        self.is_range = _is_range("ResizeShortestEdge", sample_style)
        if isinstance(short_edge_length, int):
            short_edge_length = (short_edge_length, short_edge_length)
        if self.is_range and len(short_edge_length) != 2:
            raise InputError(
                "ResizeShortestEdge: with sample_style='range', short_edge_length is (min, max);"
                f" got {short_edge_length}; use sample_style='choice' for a list of lengths"
            )
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> Transform:
        height, width = image.shape[:2]
        if self.is_range:
            low, high = self.short_edge_length
            size = np.random.randint(low, high + 1)
        else:
            size = np.random.choice(self.short_edge_length)
        if size == 0:
            return NoOpTransform()
        new_h, new_w = self.get_output_shape(height, width, size, self.max_size)
        return ResizeTransform(height, width, new_h, new_w, self.interp)

    @staticmethod
    def get_output_shape(
        oldh: int, oldw: int, short_edge_length: int, max_size: int
    ) -> tuple[int, int]:
        """Return the new height and width.

        >>> ResizeShortestEdge.get_output_shape(480, 640, 800, 1333)
        (800, 1067)
        >>> ResizeShortestEdge.get_output_shape(400, 1000, 800, 1333)
        (533, 1333)
        """
        size = float(short_edge_length)
        scale = size / min(oldh, oldw)
        height, width = (size, scale * oldw) if oldh < oldw else (scale * oldh, size)
        if max(height, width) > max_size:
            scale = float(max_size) / max(height, width)
            height, width = height * scale, width * scale
        return int(height + 0.5), int(width + 0.5)


class ResizeScale(Augmentation):
    """Resize to fit inside a target size that is scaled at random; the aspect ratio stays.

    With ``FixedSizeCrop`` it makes the large scale jittering of Ghiasi et al. (2021),
    https://arxiv.org/abs/2012.07177.

    Args:
        min_scale: least scale of the target.
        max_scale: greatest scale of the target.
        target_height: pixels, at scale 1.
        target_width: pixels, at scale 1.
        interp: Pillow's code for the interpolation.
    """

    def __init__(
        self,
        min_scale: float,
        max_scale: float,
        target_height: int,
        target_width: int,
        interp: int = _BILINEAR,
    ) -> None:
        super().__init__()
        self._init(locals())

    def _get_resize(self, image: np.ndarray, scale: float) -> Transform:
        height, width = image.shape[:2]
        factor = min(self.target_height * scale / height, self.target_width * scale / width)
        new_h, new_w = np.round(np.multiply((height, width), factor)).astype(int).tolist()
        return ResizeTransform(height, width, new_h, new_w, self.interp)

    def get_transform(self, image: np.ndarray) -> Transform:
        return self._get_resize(image, np.random.uniform(self.min_scale, self.max_scale))


class RandomResize(Augmentation):
    """Resize to one of ``shape_list``, each height and width."""

    def __init__(self, shape_list: Sequence[tuple[int, int]], interp: int = _BILINEAR) -> None:
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> Transform:
        height, width = image.shape[:2]
        new_h, new_w = self.shape_list[np.random.randint(low=0, high=len(self.shape_list))]
        return ResizeTransform(height, width, new_h, new_w, self.interp)


class RandomRotation(Augmentation):
    """Rotate counter-clockwise.

    Args:
        angle: degrees: ``(min, max)`` if ``sample_style`` is ``"range"``, those to pick from if it
            is ``"choice"``, or one angle.
        expand: grow the output so that all of the image fits in, instead of keeping its size.
        center: the point that stays, x and y in [0, 1] from the top left: two corners of the
            region to draw it from, those to pick from, or one point. The image's centre if None;
            without effect if ``expand``.
        sample_style: ``"range"`` or ``"choice"``.
        interp: see ``RotationTransform``.
    """

    def __init__(
        self,
        angle: Any,
        expand: bool = True,
        center: Any = None,
        sample_style: str = "range",
        interp: int | None = None,
    ) -> None:
        super().__init__()
        self.is_range = _is_range("RandomRotation", sample_style)
        is_one_point = center is not None and np.ndim(center) == 1
        center = (center, center) if is_one_point else center
        angle = (angle, angle) if np.ndim(angle) == 0 else angle
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> Transform:
        height, width = image.shape[:2]
        center = None
        if self.is_range:
            angle = np.random.uniform(self.angle[0], self.angle[1])
            if self.center is not None:
                (x0, y0), (x1, y1) = self.center
                center = (np.random.uniform(x0, x1), np.random.uniform(y0, y1))
        else:
            angle = np.random.choice(self.angle)
            if self.center is not None:
                center = self.center[np.random.choice(len(self.center))]
        if angle % 360 == 0:
            return NoOpTransform()
        if center is not None:
            center = (width * center[0], height * center[1])
        return RotationTransform(height, width, angle, self.expand, center, self.interp)


class FixedSizeCrop(Augmentation):
    """Crop at random what is larger than ``crop_size``, and pad what is smaller.

    Args:
        crop_size: height and width of the output.
        pad: pad right and bottom up to ``crop_size``; if False, smaller images stay smaller.
        pad_value: colour of the padding.
        seg_pad_value: label of the padding in segmentations.
    """

    def __init__(
        self,
        crop_size: tuple[int, int],
        pad: bool = True,
        pad_value: float = 128.0,
        seg_pad_value: int = 255,
    ) -> None:
        super().__init__()
        self._init(locals())

    def _get_crop(self, image: np.ndarray) -> Transform:
        size_hw = image.shape[:2]
        room = np.maximum(np.subtract(size_hw, self.crop_size), 0)
        top, left = np.round(room * np.random.uniform(0.0, 1.0)).astype(int)
        height, width = self.crop_size
        return CropTransform(left, top, width, height, size_hw[1], size_hw[0])

    def _get_pad(self, image: np.ndarray) -> Transform:
        bottom, right = np.maximum(np.subtract(self.crop_size, image.shape[:2]), 0)
        height, width = np.minimum(image.shape[:2], self.crop_size)
        return PadTransform(0, 0, right, bottom, width, height, self.pad_value, self.seg_pad_value)

    def get_transform(self, image: np.ndarray) -> TransformList:
        crop = self._get_crop(image)
        return TransformList([crop, self._get_pad(image)] if self.pad else [crop])


class RandomCrop(Augmentation):
    """Cut out a rectangle at a random place.

    Args:
        crop_type: how ``crop_size`` is meant:

            * ``"relative"``: fractions of height and width;
            * ``"relative_range"``: least such fractions, the greatest being 1;
            * ``"absolute"``: height and width in pixels, or the image's where that is smaller;
            * ``"absolute_range"``: least and greatest length in pixels, for both sides.
        crop_size: two numbers.
    """

    _TYPES = ("relative_range", "relative", "absolute", "absolute_range")

    def __init__(self, crop_type: str, crop_size: Sequence[float]) -> None:
        super().__init__()
        if crop_type not in self._TYPES:
            raise InputError(str(unknown_name("crop_type of RandomCrop", crop_type, self._TYPES)))
        if crop_type == "absolute_range" and crop_size[0] > crop_size[1]:
            raise InputError(f"RandomCrop: an absolute_range is (min, max); got {crop_size}")
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> Transform:
        height, width = image.shape[:2]
        crop_h, crop_w = self.get_crop_size((height, width))
        if crop_h > height or crop_w > width:
            raise InputError(
                f"RandomCrop: crop_size {self.crop_size} of type {self.crop_type!r} asks for"
                f" {crop_h} x {crop_w} pixels of an image of {height} x {width}; fractions are <= 1"
            )
        top = np.random.randint(height - crop_h + 1)
        left = np.random.randint(width - crop_w + 1)
        return CropTransform(left, top, crop_w, crop_h)

    def get_crop_size(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """Return height and width of a crop from an image of that height and width."""
        height, width = image_size
        if self.crop_type == "absolute":
            return min(self.crop_size[0], height), min(self.crop_size[1], width)
        if self.crop_type == "absolute_range":
            low, high = self.crop_size
            crop_h = np.random.randint(min(height, low), min(height, high) + 1)
            crop_w = np.random.randint(min(width, low), min(width, high) + 1)
            return crop_h, crop_w
        fraction_h, fraction_w = self.crop_size
        if self.crop_type == "relative_range":
            least = np.asarray(self.crop_size, dtype=np.float32)
            fraction_h, fraction_w = least + np.random.rand(2) * (1 - least)
        return int(height * fraction_h + 0.5), int(width * fraction_w + 0.5)


class RandomCrop_CategoryAreaConstraint(Augmentation):
    """``RandomCrop`` that avoids crops filled by one semantic class; tries 10 times.

    Args:
        crop_type: see ``RandomCrop``.
        crop_size: see ``RandomCrop``.
        single_category_max_area: greatest fraction of the labelled crop that one class may fill;
            from 1, there is no limit.
        ignored_category: label that is not counted.
    """

    def __init__(
        self,
        crop_type: str,
        crop_size: Sequence[float],
        single_category_max_area: float = 1.0,
        ignored_category: int | None = None,
    ) -> None:
        self.crop_aug = RandomCrop(crop_type, crop_size)
        self._init(locals())

    def get_transform(self, image: np.ndarray, sem_seg: np.ndarray) -> Transform:
        if self.single_category_max_area >= 1.0:
            return self.crop_aug.get_transform(image)
        height, width = sem_seg.shape
        for _ in range(10):
            crop_h, crop_w = self.crop_aug.get_crop_size((height, width))
            top = np.random.randint(height - crop_h + 1)
            left = np.random.randint(width - crop_w + 1)
            labels, counts = np.unique(
                sem_seg[top : top + crop_h, left : left + crop_w], return_counts=True
            )
            if self.ignored_category is not None:
                counts = counts[labels != self.ignored_category]
            if len(counts) > 1 and counts.max() < counts.sum() * self.single_category_max_area:
                break
        return CropTransform(left, top, crop_w, crop_h)


class RandomExtent(Augmentation):
    """Take a random rectangle, which may reach outside the image, where it is black.

    Args:
        scale_range: least and greatest size of the rectangle, as a fraction of the image's.
        shift_range: x and y; the rectangle's centre moves by up to half of this fraction of the
            image's width and height, to either side.
    """

    def __init__(self, scale_range: tuple[float, float], shift_range: tuple[float, float]) -> None:
        super().__init__()
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> Transform:
        size_wh = np.array(image.shape[1::-1])
        half_wh = 0.5 * size_wh * np.random.uniform(self.scale_range[0], self.scale_range[1])
        shift_xy = (
            np.array(self.shift_range) * size_wh * [np.random.rand() - 0.5, np.random.rand() - 0.5]
        )
        x0, y0 = -half_wh + shift_xy + 0.5 * size_wh
        x1, y1 = half_wh + shift_xy + 0.5 * size_wh
        return ExtentTransform(src_rect=(x0, y0, x1, y1), output_size=(int(y1 - y0), int(x1 - x0)))


class MinIoURandomCrop(Augmentation):
    """Crop so that every box keeps a least IoU with the crop, drawn anew for each image.

    The sampling of SSD: Liu et al. (2016), section 2.2, https://arxiv.org/abs/1512.02325.

    Args:
        min_ious: least IoUs to pick from, beside 1 (no crop) and 0 (any crop).
        min_crop_size: least side of a crop, as a fraction of the image's.
        mode_trials: how often a least IoU is picked before giving up.
        crop_trials: how often a crop is tried for each.
    """

    def __init__(
        self,
        min_ious: Sequence[float] = (0.1, 0.3, 0.5, 0.7, 0.9),
        min_crop_size: float = 0.3,
        mode_trials: int = 1000,
        crop_trials: int = 50,
    ) -> None:
        self._init(locals())
        self.sample_mode = (1, *min_ious, 0)

    def get_transform(self, image: np.ndarray, boxes: np.ndarray | None) -> Transform:
        if boxes is None:
            return NoOpTransform()
        boxes = np.asarray(boxes).reshape(-1, 4)
        for _ in range(self.mode_trials):
            self.mode = np.random.choice(self.sample_mode)
            if self.mode == 1:
                return NoOpTransform()
            for _ in range(self.crop_trials):
                left, top, width, height = self._draw_window(image)
                if 0.5 <= height / width <= 2 and self._keeps(boxes, left, top, width, height):
                    return CropTransform(int(left), int(top), int(width), int(height))
        return NoOpTransform()

    def _draw_window(self, image: np.ndarray) -> tuple[float, float, float, float]:
        height, width = image.shape[:2]
        new_w = np.random.uniform(self.min_crop_size * width, width)
        new_h = np.random.uniform(self.min_crop_size * height, height)
        if not 0.5 <= new_h / new_w <= 2:
            return 0, 0, new_w, new_h  # rejected; detectron2 draws no place for it
        # numpy's uniform(a) draws between a and 1; the seed has to give the same crops.
        return np.random.uniform(width - new_w), np.random.uniform(height - new_h), new_w, new_h

    def _keeps(
        self, boxes: np.ndarray, left: float, top: float, width: float, height: float
    ) -> bool:
        x0, y0, x1, y1 = int(left), int(top), int(left + width), int(top + height)
        if x0 == x1 or y0 == y1:
            return False
        if len(boxes) == 0:
            return True
        inner = np.minimum(boxes[:, 2:], (x1, y1)) - np.maximum(boxes[:, :2], (x0, y0))
        inner_area = inner.clip(min=0).prod(axis=1)
        area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
        union = area + (x1 - x0) * (y1 - y0) - inner_area
        iou = np.where(inner_area > 0, inner_area / union, 0.0)
        center_xy = (boxes[:, :2] + boxes[:, 2:]) / 2
        has_center = ((center_xy > (x0, y0)) & (center_xy < (x1, y1))).all(axis=1)
        return bool(iou.min() >= self.mode and has_center.any())


def _is_range(owner: str, sample_style: str) -> bool:
    if sample_style not in ("range", "choice"):
        raise InputError(f"{owner}: sample_style must be 'range' or 'choice'; got {sample_style!r}")
    return sample_style == "range"
