"""The transforms there are: flips, crops, padding, resizing, rotation; ``color`` has the others.

Constructor arguments in pixels come as width and height where x comes first (``x0, y0, w, h``)
and as height and width where a size stands alone (``h, w``); their names say which.
See ``base`` for what images, points and boxes look like.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from retinue.data.transforms.base import NoOpTransform, Transform, TransformList
from retinue.data.transforms.clip import clip_polygon
from retinue.data.transforms.color import BlendTransform, ColorTransform, PILColorTransform
from retinue.data.transforms.planes import as_tensor, from_planes, to_planes, warp
from retinue.utils.errors import InputError

__all__ = [
    "BlendTransform",
    "ColorTransform",
    "CropTransform",
    "ExtentTransform",
    "GridSampleTransform",
    "HFlipTransform",
    "NoOpTransform",
    "PILColorTransform",
    "PadTransform",
    "ResizeTransform",
    "RotationTransform",
    "ScaleTransform",
    "Transform",
    "TransformList",
    "VFlipTransform",
]


def HFlip_rotated_box(transform: HFlipTransform, rotated_boxes: np.ndarray) -> np.ndarray:
    """Mirror left and right ``(N, 5)`` rotated boxes.

    A row is x centre, y centre, width, height in pixels, and degrees counter-clockwise.
    """
    rotated_boxes[:, 0] = transform.width - rotated_boxes[:, 0]
    rotated_boxes[:, 4] = -rotated_boxes[:, 4]
    return rotated_boxes


def VFlip_rotated_box(transform: VFlipTransform, rotated_boxes: np.ndarray) -> np.ndarray:
    """Mirror ``(N, 5)`` rotated boxes top to bottom."""
    rotated_boxes[:, 1] = transform.height - rotated_boxes[:, 1]
    rotated_boxes[:, 4] = -rotated_boxes[:, 4]
    return rotated_boxes


def Resize_rotated_box(transform: ResizeTransform, rotated_boxes: np.ndarray) -> np.ndarray:
    """Resize ``(N, 5)`` rotated boxes.

    Under unequal scales a rectangle becomes a parallelogram; the result keeps the lengths of its
    sides and the direction of the side that was its height, as ``RotatedBoxes.scale`` does.
    """
    scale_x, scale_y = transform.new_w / transform.w, transform.new_h / transform.h
    angle = np.deg2rad(rotated_boxes[:, 4])
    cos, sin = np.cos(angle), np.sin(angle)
    rotated_boxes[:, :2] *= (scale_x, scale_y)
    rotated_boxes[:, 2] *= np.hypot(scale_x * cos, scale_y * sin)
    rotated_boxes[:, 3] *= np.hypot(scale_x * sin, scale_y * cos)
    rotated_boxes[:, 4] = np.rad2deg(np.arctan2(scale_x * sin, scale_y * cos))
    return rotated_boxes


class HFlipTransform(Transform):
    """Mirror left and right."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        return np.flip(img, axis=1 if img.ndim <= 3 else 2)

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        coords[:, 0] = self.width - coords[:, 0]
        return coords

    def inverse(self) -> Transform:
        return self

    apply_rotated_box = HFlip_rotated_box


class VFlipTransform(Transform):
    """Mirror top and bottom."""

    def __init__(self, height: int) -> None:
        super().__init__()
        self.height = height

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        return np.flip(img, axis=0 if img.ndim <= 3 else 1)

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        coords[:, 1] = self.height - coords[:, 1]
        return coords

    def inverse(self) -> Transform:
        return self

    apply_rotated_box = VFlip_rotated_box


class CropTransform(Transform):
    """Cut out ``img[y0 : y0 + h, x0 : x0 + w]``; with the original size, it can be inverted."""

    def __init__(
        self,
        x0: int,
        y0: int,
        w: int,
        h: int,
        orig_w: int | None = None,
        orig_h: int | None = None,
    ) -> None:
        super().__init__()
        self._set_attributes(locals())

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        rows, columns = slice(self.y0, self.y0 + self.h), slice(self.x0, self.x0 + self.w)
        return img[rows, columns] if img.ndim <= 3 else img[..., rows, columns, :]

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        coords[:, 0] -= self.x0
        coords[:, 1] -= self.y0
        return coords

    def apply_polygons(self, polygons: list[np.ndarray]) -> list[np.ndarray]:
        """Cut polygons off at the border of the crop; those outside it are left out."""
        window = (self.x0, self.y0, self.x0 + self.w, self.y0 + self.h)
        clipped = (clip_polygon(polygon, window) for polygon in polygons)
        return [self.apply_coords(polygon) for polygon in clipped if len(polygon) >= 3]

    def inverse(self) -> Transform:
        width, height = _original_size(self)
        right, bottom = width - self.x0 - self.w, height - self.y0 - self.h
        return PadTransform(self.x0, self.y0, right, bottom, orig_w=self.w, orig_h=self.h)


class PadTransform(Transform):
    """Add ``x0, y0, x1, y1`` pixels at the left, top, right and bottom."""

    def __init__(
        self,
        x0: int,
        y0: int,
        x1: int,
        y1: int,
        orig_w: int | None = None,
        orig_h: int | None = None,
        pad_value: float = 0,
        seg_pad_value: int = 0,
    ) -> None:
        super().__init__()
        self._set_attributes(locals())

    def _pad(self, img: np.ndarray, value: float) -> np.ndarray:
        widths = ((self.y0, self.y1), (self.x0, self.x1), (0, 0))[: max(img.ndim, 2)]
        return np.pad(img, widths, mode="constant", constant_values=value)

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        return self._pad(img, self.pad_value)

    def apply_segmentation(self, img: np.ndarray) -> np.ndarray:
        return self._pad(img, self.seg_pad_value)

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        coords[:, 0] += self.x0
        coords[:, 1] += self.y0
        return coords

    def inverse(self) -> Transform:
        width, height = _original_size(self)
        padded_w, padded_h = width + self.x0 + self.x1, height + self.y0 + self.y1
        return CropTransform(self.x0, self.y0, width, height, orig_w=padded_w, orig_h=padded_h)


def _original_size(transform: CropTransform | PadTransform) -> tuple[int, int]:
    if transform.orig_w is None or transform.orig_h is None:
        raise InputError(
            f"{type(transform).__name__}.inverse: needs the size before the transform;"
            " give orig_w and orig_h when making it"
        )
    return transform.orig_w, transform.orig_h


class ResizeTransform(Transform):
    """Resize to a size, as Pillow does for uint8 images and PyTorch for all others.

    Args:
        h: height of the input, pixels.
        w: width of the input.
        new_h: height of the output.
        new_w: width of the output.
        interp: Pillow's code for the interpolation; bilinear if None.
    """

    def __init__(self, h: int, w: int, new_h: int, new_w: int, interp: int | None = None) -> None:
        super().__init__()
        self.h, self.w, self.new_h, self.new_w = h, w, new_h, new_w
        self.interp = int(Image.Resampling.BILINEAR if interp is None else interp)

    def apply_image(self, img: np.ndarray, interp: int | None = None) -> np.ndarray:
        _expect_size(self, img)
        interp = self.interp if interp is None else interp
        if np.issubdtype(img.dtype, np.floating):
            return self._resize_floats(img, interp)
        if img.dtype != np.uint8:
            return self._resize_labels(img, interp)
        reverse = img.ndim == 3 and img.strides[2] < 0  # BGR as a view of RGB: Pillow wants RGB
        pil_image = _to_pil(img[..., ::-1] if reverse else img)
        resized = np.asarray(pil_image.resize((self.new_w, self.new_h), interp))
        resized = resized[..., None] if resized.ndim < img.ndim else resized
        return resized[..., ::-1] if reverse else resized

    def _resize_labels(self, img: np.ndarray, interp: int) -> np.ndarray:
        if interp != Image.Resampling.NEAREST:
            raise InputError(
                f"ResizeTransform: an image must be uint8 or floating point; got {img.dtype};"
                " convert it, or use apply_segmentation for labels"
            )
        rows = (np.arange(self.new_h) + 0.5) * (self.h / self.new_h)  # Pillow's nearest
        columns = (np.arange(self.new_w) + 0.5) * (self.w / self.new_w)
        return img[rows.astype(np.int64)[:, None], columns.astype(np.int64)]

    def _resize_floats(self, img: np.ndarray, interp: int) -> np.ndarray:
        modes = {
            Image.Resampling.NEAREST: "nearest",
            Image.Resampling.BILINEAR: "bilinear",
            Image.Resampling.BICUBIC: "bicubic",
        }
        mode = modes[Image.Resampling(interp)]
        planes = as_tensor(img).reshape(self.h, self.w, -1)
        resized = F.interpolate(
            planes.permute(2, 0, 1)[None],
            (self.new_h, self.new_w),
            mode=mode,
            align_corners=None if mode == "nearest" else False,
        )
        new_shape = (self.new_h, self.new_w, *img.shape[2:])
        return resized[0].permute(1, 2, 0).reshape(new_shape).numpy()

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        coords[:, 0] = coords[:, 0] * (self.new_w / self.w)
        coords[:, 1] = coords[:, 1] * (self.new_h / self.h)
        return coords

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        return self.apply_image(segmentation, interp=Image.Resampling.NEAREST)

    apply_rotated_box = Resize_rotated_box

    def inverse(self) -> Transform:
        return ResizeTransform(self.new_h, self.new_w, self.h, self.w, self.interp)


class ScaleTransform(Transform):
    """Resize by ``torch.nn.functional.interpolate``; ``interp`` is its ``mode``."""

    def __init__(self, h: int, w: int, new_h: int, new_w: int, interp: str | None = None) -> None:
        super().__init__()
        self._set_attributes(locals())

    def apply_image(self, img: np.ndarray, interp: str | None = None) -> np.ndarray:
        _expect_size(self, img)
        mode = interp or self.interp
        planes = F.interpolate(
            to_planes(img),
            size=(self.new_h, self.new_w),
            mode=mode,
            align_corners=False if mode in ("linear", "bilinear", "bicubic") else None,
        )
        return from_planes(planes, img)

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        coords[:, 0] = coords[:, 0] * (self.new_w / self.w)
        coords[:, 1] = coords[:, 1] * (self.new_h / self.h)
        return coords

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        return self.apply_image(segmentation, interp="nearest")

    def inverse(self) -> Transform:
        return ScaleTransform(self.new_h, self.new_w, self.h, self.w, self.interp)


class GridSampleTransform(Transform):
    """Pick each output pixel from where ``grid`` says; points can't be moved.

    Args:
        grid: ``(N, H, W, 2)`` floats in [-1, 1], the x and y that each output pixel comes from.
        interp: ``"nearest"`` or ``"bilinear"``.
    """

    def __init__(self, grid: np.ndarray, interp: str) -> None:
        super().__init__()
        self._set_attributes(locals())

    def apply_image(self, img: np.ndarray, interp: str | None = None) -> np.ndarray:
        planes = F.grid_sample(
            to_planes(img),
            torch.from_numpy(self.grid),
            mode=interp or self.interp,
            padding_mode="border",
            align_corners=False,
        )
        return from_planes(planes, img)

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        raise NotImplementedError("GridSampleTransform: a grid says nothing of where points go")

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        return self.apply_image(segmentation, interp="nearest")


class ExtentTransform(Transform):
    """Take a rectangle of the input, which may reach outside it, and resize that.

    Args:
        src_rect: x0, y0, x1, y1 in the input, pixels.
        output_size: height and width of the output.
        interp: Pillow's code for the interpolation.
        fill: value of pixels from outside the input.
    """

    def __init__(
        self,
        src_rect: tuple[float, float, float, float],
        output_size: tuple[int, int],
        interp: int = Image.Resampling.BILINEAR,
        fill: int = 0,
    ) -> None:
        super().__init__()
        self._set_attributes(locals())

    def apply_image(self, img: np.ndarray, interp: int | None = None) -> np.ndarray:
        height, width = self.output_size
        out = _to_pil(img).transform(
            size=(width, height),
            method=Image.Transform.EXTENT,
            data=self.src_rect,
            resample=self.interp if interp is None else interp,
            fill=self.fill,
        )
        array = np.asarray(out)
        return array[..., None] if array.ndim < img.ndim else array

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        height, width = self.output_size
        x0, y0, x1, y1 = self.src_rect
        scale_xy = np.array([width / (x1 - x0), height / (y1 - y0)], dtype=np.float32)
        center_xy = np.array([0.5 * (x0 + x1), 0.5 * (y0 + y1)], dtype=np.float32)
        new_center_xy = np.array([0.5 * width, 0.5 * height], dtype=np.float32)
        return (coords.astype(np.float32) - center_xy) * scale_xy + new_center_xy

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        return self.apply_image(segmentation, interp=Image.Resampling.NEAREST)


class RotationTransform(Transform):
    """Rotate by ``angle`` degrees, counter-clockwise.

    Args:
        h: height of the input, pixels.
        w: width of the input.
        angle: degrees.
        expand: grow the output so that all of the input fits in, instead of keeping its size.
        center: x and y of the point that stays; the image's centre if None or if ``expand``.
        interp: 0 for nearest, 1 for bilinear (OpenCV's numbers); bilinear if None.

    Attributes:
        rm_coords: ``(2, 3)`` matrix that moves points.
        rm_image: the same for indices of pixels, whose centres are half a pixel further.
    """

    def __init__(
        self,
        h: int,
        w: int,
        angle: float,
        expand: bool = True,
        center: Any = None,
        interp: int | None = None,
    ) -> None:
        super().__init__()
        image_center = np.array([w / 2, h / 2])
        center = image_center if center is None else center
        interp = 1 if interp is None else interp
        abs_cos, abs_sin = abs(np.cos(np.deg2rad(angle))), abs(np.sin(np.deg2rad(angle)))
        bound_w, bound_h = w, h
        if expand:
            bound_w = int(np.rint(h * abs_sin + w * abs_cos))
            bound_h = int(np.rint(h * abs_cos + w * abs_sin))
        self._set_attributes(locals())
        self.rm_coords = self.create_rotation_matrix()
        self.rm_image = self.create_rotation_matrix(offset=-0.5)

    def apply_image(self, img: np.ndarray, interp: int | None = None) -> np.ndarray:
        if img.size == 0 or self.angle % 360 == 0:
            return img
        _expect_size(self, img)
        interp = self.interp if interp is None else interp
        return warp(img, self.rm_image, (self.bound_h, self.bound_w), nearest=interp == 0)

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        coords = np.asarray(coords, dtype=float)
        if len(coords) == 0 or self.angle % 360 == 0:
            return coords
        moved: np.ndarray = coords @ self.rm_coords[:, :2].T + self.rm_coords[:, 2]
        return moved

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        return self.apply_image(segmentation, interp=0)

    def create_rotation_matrix(self, offset: float = 0) -> np.ndarray:
        """Return the ``(2, 3)`` matrix for coordinates that lie ``offset`` from points' own."""
        cos, sin = np.cos(np.deg2rad(self.angle)), np.sin(np.deg2rad(self.angle))
        rotation = np.array([[cos, sin], [-sin, cos]])  # y points down
        fixed = np.asarray(self.center, dtype=float) + offset
        shift = fixed - rotation @ fixed
        if self.expand:  # the image's centre becomes the centre of the larger output
            middle = np.array([self.bound_w / 2, self.bound_h / 2]) + offset
            shift = middle - rotation @ (self.image_center + offset)
        return np.column_stack([rotation, shift])

    def inverse(self) -> Transform:
        if not self.expand:
            raise NotImplementedError("RotationTransform: without expand, the corners are lost")
        back = RotationTransform(self.bound_h, self.bound_w, -self.angle, True, None, self.interp)
        left, top = (back.bound_w - self.w) // 2, (back.bound_h - self.h) // 2
        return TransformList([back, CropTransform(left, top, self.w, self.h)])


def _expect_size(transform: Any, img: np.ndarray) -> None:
    got = (
        img.shape[1:3] if img.ndim == 4 and isinstance(transform, ScaleTransform) else img.shape[:2]
    )
    if tuple(got) != (transform.h, transform.w):
        raise InputError(
            f"{type(transform).__name__}: made for images of height {transform.h} and width"
            f" {transform.w}; got an array of shape {img.shape}"
        )


def _to_pil(img: np.ndarray) -> Image.Image:
    return Image.fromarray(img[:, :, 0] if img.ndim == 3 and img.shape[2] == 1 else img)
