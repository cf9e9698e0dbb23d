"""What visualisers are made of: matrices, rectangles, points and text on a picture.

A picture is ``(H, W, 3)`` uint8 BGR; visualisers draw on it and return it. A box is x, y, width,
height in pixels.
"""

import logging
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import ImageFont

from retinue.projects.densepose.vis.drawing import PARULA, apply_colormap, draw, paste, resize
from retinue.utils.errors import InputError

__all__ = [
    "Boxes",
    "CompoundVisualizer",
    "Image",
    "MatrixVisualizer",
    "PointsVisualizer",
    "RectangleVisualizer",
    "TextVisualizer",
]

Image = np.ndarray
Boxes = torch.Tensor
Color = tuple[int, int, int]
GREEN, GRAY, WHITE = (18, 127, 15), (218, 227, 218), (255, 255, 255)
logger = logging.getLogger(__name__)


class MatrixVisualizer:
    """Lays coloured values over a box, where a mask says so.

    Args:
        inplace: draw on the picture given; else on a black one of its size.
        cmap: number of a colour map, ``PARULA`` or ``JET`` of ``drawing``.
        val_scale: what values are multiplied by to lie between 0 and 255.
        alpha: how much of the colours shows.
        interp_method_matrix: 0 stretches values by the nearest one, 1 interpolates.
        interp_method_mask: likewise.
    """

    def __init__(
        self,
        inplace: bool = True,
        cmap: int = PARULA,
        val_scale: float = 1.0,
        alpha: float = 0.7,
        interp_method_matrix: int = 1,
        interp_method_mask: int = 0,
    ) -> None:
        self.inplace = inplace
        self.cmap = cmap
        self.val_scale = val_scale
        self.alpha = alpha
        self.interp_method_matrix = interp_method_matrix
        self.interp_method_mask = interp_method_mask

    def visualize(
        self, image_bgr: Image, mask: np.ndarray, matrix: np.ndarray, bbox_xywh: Sequence[float]
    ) -> Image:
        """Draw values; both arrays are stretched over the box.

        Args:
            image_bgr: the picture.
            mask: ``(h, w)`` uint8, 0 where nothing is drawn.
            matrix: ``(h, w)`` values.
            bbox_xywh: where.

        Raises:
            InputError: If an array has another shape or type.
        """
        self._check_image(image_bgr)
        self._check_mask_matrix(mask, matrix)
        picture = image_bgr if self.inplace else np.zeros_like(image_bgr)
        w, h = int(bbox_xywh[2]), int(bbox_xywh[3])
        if w <= 0 or h <= 0:
            return image_bgr
        mask, matrix = self._resize(mask, matrix, w, h)
        scaled = matrix.astype(np.float32) * self.val_scale
        if (scaled > 255 + 1e-6).any():
            logger.warning("values above 255, up to %.1f, are drawn as 255", scaled.max())
        colors = apply_colormap(scaled.clip(0, 255).astype(np.uint8), self.cmap)
        shown = self.alpha * (mask > 0)[..., None]

        def blend(before: np.ndarray, part: Any) -> np.ndarray:
            return before * (1 - shown[part]) + colors[part] * shown[part]

        paste(picture, bbox_xywh, blend)
        return picture

    def _resize(
        self, mask: np.ndarray, matrix: np.ndarray, w: int, h: int
    ) -> tuple[np.ndarray, np.ndarray]:
        mask = resize(mask, (h, w), smooth=self.interp_method_mask != 0)
        return mask, resize(matrix, (h, w), smooth=self.interp_method_matrix != 0)

    def _check_image(self, image_rgb: Image) -> None:
        if image_rgb.ndim != 3 or image_rgb.shape[2] != 3 or image_rgb.dtype != np.uint8:
            raise InputError(
                f"a picture must be (H, W, 3) uint8; got {image_rgb.shape} {image_rgb.dtype}"
            )

    def _check_mask_matrix(self, mask: np.ndarray, matrix: np.ndarray) -> None:
        if mask.ndim != 2 or matrix.ndim != 2 or mask.dtype != np.uint8:
            raise InputError(
                "expected a mask (h, w) uint8 and a matrix (h, w); got"
                f" {mask.shape} {mask.dtype} and {matrix.shape}"
            )


class RectangleVisualizer:
    """Draws the outline of a box.

    Args:
        color: BGR.
        thickness: of the line, in pixels.
    """

    def __init__(self, color: Color = GREEN, thickness: int = 1) -> None:
        self.color = color
        self.thickness = thickness

    def visualize(
        self,
        image_bgr: Image,
        bbox_xywh: Sequence[float],
        color: Color | None = None,
        thickness: int | None = None,
    ) -> Image:
        """Draw a box, in another colour or thickness if they are given."""
        x, y, w, h = (float(number) for number in bbox_xywh)
        corners = [int(x), int(y), max(int(x + w), int(x)), max(int(y + h), int(y))]
        options = {"outline": color or self.color, "width": thickness or self.thickness}
        return draw(image_bgr, lambda pen: pen.rectangle(corners, **options))


class PointsVisualizer:
    """Draws points as discs.

    Args:
        color_bgr: of all, unless each has its own.
        r: radius of all, in pixels, likewise.
    """

    def __init__(self, color_bgr: Color = GREEN, r: int = 5) -> None:
        self.color_bgr = color_bgr
        self.r = r

    def visualize(
        self,
        image_bgr: Image,
        pts_xy: Iterable[Sequence[float]],
        colors_bgr: Sequence[Sequence[int]] | None = None,
        rs: Sequence[int] | None = None,
    ) -> Image:
        """Draw points, in colours and radii of their own if they are given."""

        def paint(pen: Any) -> None:
            for number, point in enumerate(pts_xy):
                x, y = int(point[0]), int(point[1])
                color = self.color_bgr if colors_bgr is None else tuple(colors_bgr[number])
                r = self.r if rs is None else rs[number]
                pen.ellipse([x - r, y - r, x + r, y + r], fill=color)

        return draw(image_bgr, paint)


class TextVisualizer:
    """Writes text in a box of its own.

    Args:
        font_face: not used; there is one font.
        font_color_bgr: of the text.
        font_scale: 1 for letters of about 21 pixels.
        font_line_type: not used.
        font_line_thickness: not used.
        fill_color_bgr: of the box.
        fill_color_transparency: 1 for no box, 0 for one that nothing shows through.
        frame_color_bgr: of a frame around it.
        frame_color_transparency: likewise.
        frame_thickness: in pixels.
    """

    def __init__(
        self,
        font_face: int = 0,
        font_color_bgr: Color = GRAY,
        font_scale: float = 0.35,
        font_line_type: int = 16,
        font_line_thickness: int = 1,
        fill_color_bgr: Color = WHITE,
        fill_color_transparency: float = 1.0,
        frame_color_bgr: Color = WHITE,
        frame_color_transparency: float = 1.0,
        frame_thickness: int = 1,
    ) -> None:
        self.font_face = font_face
        self.font_color_bgr = font_color_bgr
        self.font_scale = font_scale
        self.font_line_type = font_line_type
        self.font_line_thickness = font_line_thickness
        self.fill_color_bgr = fill_color_bgr
        self.fill_color_transparency = fill_color_transparency
        self.frame_color_bgr = frame_color_bgr
        self.frame_color_transparency = frame_color_transparency
        self.frame_thickness = frame_thickness

    def _font(self) -> Any:
        return ImageFont.load_default(size=max(30 * self.font_scale, 1))

    def visualize(self, image_bgr: Image, txt: str, topleft_xy: Sequence[float]) -> Image:
        """Write a text."""
        x, y = (int(number) for number in topleft_xy)
        w, h = self.get_text_size_wh(txt)
        t = self.frame_thickness
        self._fill(
            image_bgr,
            (x - t, y - t, w + 2 * t, h + 2 * t),
            self.frame_color_bgr,
            self.frame_color_transparency,
        )
        self._fill(image_bgr, (x, y, w, h), self.fill_color_bgr, self.fill_color_transparency)
        options = {"fill": self.font_color_bgr, "font": self._font()}
        return draw(image_bgr, lambda pen: pen.text((x, y), txt, **options))

    @staticmethod
    def _fill(image: Image, box: tuple[int, ...], color: Color, transparency: float) -> None:
        if transparency < 1:
            mixed = np.array(color) * (1 - transparency)
            paste(image, box, lambda before, _: before * transparency + mixed)

    def get_text_size_wh(self, txt: str) -> tuple[int, int]:
        """Return width and height of a text in pixels."""
        _, _, width, height = self._font().getbbox(txt)
        return int(np.ceil(width)), int(np.ceil(height))


class CompoundVisualizer:
    """Draws with several visualisers, one after the other.

    Args:
        visualizers: in their order.
    """

    def __init__(self, visualizers: Sequence[Any]) -> None:
        self.visualizers = visualizers

    def visualize(self, image_bgr: Image, data: Sequence[Any]) -> Image:
        """Draw; ``data`` has what each visualiser wants.

        Raises:
            InputError: If their numbers differ.
        """
        if len(data) != len(self.visualizers):
            raise InputError(
                f"expected data for each of {len(self.visualizers)} visualizers; got {len(data)}"
            )
        for visualizer, one in zip(self.visualizers, data, strict=True):
            image_bgr = visualizer.visualize(image_bgr, one)
        return image_bgr

    def __str__(self) -> str:
        return f"CompoundVisualizer({', '.join(map(str, self.visualizers))})"
