"""One thing at a time: texts, boxes, lines, disks, polygons and masks on a picture.

``Visualizer`` draws whole results with these. Units are explained there.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from enum import Enum, unique
from typing import Any

import numpy as np
import torch

from retinue.visualization.canvas import tag_size
from retinue.visualization.colors import RGB, contrasting, jitter, palette_color, shade, to_rgb
from retinue.visualization.labels import Label
from retinue.visualization.regions import label_regions, label_spot
from retinue.visualization.vis_image import VisImage

__all__ = ["ColorMode", "Primitives", "as_array"]

_LARGE_MASK_AREA_THRESH = 120000
_BLACK = (0, 0, 0)
_KEYPOINT_THRESHOLD = 0.05


@unique
class ColorMode(Enum):
    """How objects are coloured.

    ``IMAGE``: each object its own colour, half transparent. ``SEGMENTATION``: objects of a class
    in shades of that class's colour, nearly opaque. ``IMAGE_BW``: as ``IMAGE``, over a picture
    that keeps its colours inside masks only.
    """

    IMAGE = 0
    SEGMENTATION = 1
    IMAGE_BW = 2


def as_array(values: Any) -> np.ndarray:
    return values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)


def _nameless_metadata() -> Any:
    from retinue.data.catalog import MetadataCatalog

    return MetadataCatalog.get("__nonexist__")


class Primitives:
    """The part of ``Visualizer`` that draws one thing; its arguments are explained there."""

    def __init__(
        self,
        img_rgb: Any,
        metadata: Any = None,
        scale: float = 1.0,
        instance_mode: ColorMode = ColorMode.IMAGE,
        font_size_scale: float = 1.0,
    ) -> None:
        self.metadata = _nameless_metadata() if metadata is None else metadata
        self.img = as_array(img_rgb).clip(0, 255).astype(np.uint8)
        self.output = VisImage(self.img, scale=scale)
        self.cpu_device = torch.device("cpu")
        side = np.sqrt(self.output.height * self.output.width)
        self._default_font_size = max(side // 90, 10 // scale) * font_size_scale
        self._instance_mode = instance_mode
        self.keypoint_threshold = _KEYPOINT_THRESHOLD
        self._random = random.Random(0)  # the same picture each time

    def draw_text(
        self,
        text: str,
        position: Sequence[float],
        *,
        font_size: float | None = None,
        color: Any = "g",
        horizontal_alignment: str = "center",
        rotation: float = 0,
    ) -> VisImage:
        """Write a text on a dark plate, over everything else.

        Args:
            text: one line.
            position: x, y of the plate's top edge.
            font_size: in points; by default it follows the size of the picture.
            color: of the letters; dark ones are lightened.
            horizontal_alignment: which point of the edge: ``left``, ``center`` or ``right``.
            rotation: degrees counter-clockwise.
        """
        size = self.output.pixels(font_size or self._default_font_size)
        letters = np.maximum(to_rgb(color), 0.2)
        letters[np.argmax(letters)] = max(0.8, letters.max())
        back = {"left": 0.0, "center": 0.5, "right": 1.0}[horizontal_alignment]
        x, y = (float(v) * self.output.scale for v in position)
        x -= back * tag_size(text, size)[0]
        self.output.add_label(
            Label(text, size, [(x, y)], to_rgb(letters), _BLACK, 0.75, float(rotation))
        )
        return self.output

    def draw_box(
        self,
        box_coord: Sequence[float],
        alpha: float = 0.5,
        edge_color: Any = "g",
        line_style: str = "-",
    ) -> VisImage:
        """Draw the outline of a box, ``x0, y0, x1, y1``; thinner if it is small."""
        x0, y0, x1, y1 = (float(v) * self.output.scale for v in box_coord)
        width = self._line_width(min(abs(x1 - x0), abs(y1 - y0)))
        painter = self.output.painter
        if line_style in ("-", "solid"):
            painter.box((x0, y0, x1, y1), edge_color, width=width, alpha=alpha)
        else:
            corners = np.asarray([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
            painter.line(
                corners, edge_color, width=width, alpha=alpha, style=line_style, closed=True
            )
        return self.output

    def draw_rotated_box_with_label(
        self,
        rotated_box: Sequence[float],
        alpha: float = 0.5,
        edge_color: Any = "g",
        line_style: str = "-",
        label: str | None = None,
    ) -> VisImage:
        """Draw a rotated box, its upper edge dashed, with a label along that edge.

        Args:
            rotated_box: center x, center y, width, height, degrees counter-clockwise.
            alpha: opacity.
            edge_color: of the outline.
            line_style: of the other edges.
            label: a text, at the corner that is top-left before turning.
        """
        x, y, width, height, degrees = (float(v) for v in rotated_box)
        cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        unturned = np.asarray([[-1, 1], [-1, -1], [1, -1], [1, 1]]) * (width / 2, height / 2)
        corners = unturned @ np.asarray([[cos, -sin], [sin, cos]]) + (x, y)
        scale = self.output.scale
        thick = self._line_width(min(width, height) * scale)
        for i in range(4):
            edge = corners[[i, (i + 1) % 4]] * scale
            style = "--" if i == 1 else line_style
            self.output.painter.line(
                edge, edge_color, width=thick, alpha=max(alpha, 0.9), style=style
            )
        if label is not None:
            size = self._label_size(height)
            place = [tuple(corners[1] * scale)]
            ink = contrasting(to_rgb(edge_color))
            self.output.add_label(Label(label, size, place, ink, edge_color, 0.92, degrees))
        return self.output

    def draw_circle(self, circle_coord: Sequence[float], color: Any, radius: float = 3) -> VisImage:
        """Fill a disk around x, y."""
        x, y = (float(v) * self.output.scale for v in circle_coord)
        self.output.painter.disk((x, y), radius * self.output.scale, color)
        return self.output

    def draw_line(
        self,
        x_data: Sequence[float],
        y_data: Sequence[float],
        color: Any,
        linestyle: str = "-",
        linewidth: float | None = None,
    ) -> VisImage:
        """Draw a line through points; ``linewidth`` is in points."""
        if linewidth is None:
            linewidth = self._default_font_size / 3
        points = np.stack([as_array(x_data), as_array(y_data)], axis=1) * self.output.scale
        width = self.output.pixels(max(linewidth, 1))
        self.output.painter.line(points, color, width=width, style=linestyle)
        return self.output

    def draw_binary_mask(
        self,
        binary_mask: Any,
        color: Any = None,
        *,
        edge_color: Any = None,
        text: str | None = None,
        alpha: float = 0.5,
        area_threshold: float = 10,
    ) -> VisImage:
        """Draw a mask ``(H, W)`` of zeros and ones.

        Args:
            binary_mask: tensor or array.
            color: of the mask; by default one of the palette.
            edge_color: of its outline; None draws none.
            text: written on its largest part, and on others that are very large.
            alpha: opacity.
            area_threshold: connected parts of fewer pixels are left out.
        """
        color = self._some_color() if color is None else to_rgb(color)
        regions, areas = label_regions(as_array(binary_mask))
        large = areas >= (area_threshold or 0)
        shown = np.concatenate([[False], large])[regions]
        self.output.painter.mask(
            shown, color, alpha=alpha, edge_color=edge_color, edge_width=self._edge_width()
        )
        if text is not None and large.any():
            named = (areas > _LARGE_MASK_AREA_THRESH) | (areas == areas.max())
            for number in np.nonzero(named & large)[0] + 1:
                self._draw_text_in_mask(regions == number, text, shade(color, 0.7))
        return self.output

    def draw_soft_mask(
        self, soft_mask: Any, color: Any = None, *, text: str | None = None, alpha: float = 0.5
    ) -> VisImage:
        """Draw a mask ``(H, W)`` of opacities in [0, 1]; ``text`` goes where it is above 0.5."""
        color = self._some_color() if color is None else to_rgb(color)
        soft_mask = as_array(soft_mask)
        self.output.painter.soft_mask(soft_mask, color, alpha=alpha)
        if text is not None and (soft_mask > 0.5).any():
            self._draw_text_in_mask(soft_mask > 0.5, text, shade(color, 0.7))
        return self.output

    def draw_polygon(
        self, segment: Any, color: Any, edge_color: Any = None, alpha: float = 0.5
    ) -> VisImage:
        """Draw a polygon ``(P, 2)``; its outline is of its colour, darker if it is opaque."""
        points = as_array(segment).reshape(-1, 2) * self.output.scale
        if edge_color is None:
            edge_color = shade(color, -0.7) if alpha > 0.8 else color
        self.output.painter.polygon(points, color, alpha=alpha)
        self.output.painter.line(points, edge_color, width=self._edge_width(), closed=True)
        return self.output

    def get_output(self) -> VisImage:
        """Return the picture with everything drawn so far."""
        return self.output

    # Helpers, some of which subclasses elsewhere call or override

    def _edge_width(self) -> float:
        return max(self.output.pixels(self._default_font_size // 15), 1.4)

    def _line_width(self, side: float) -> float:
        """Pick a line width, in pixels, for an object whose shorter side is ``side`` pixels."""
        usual = max(self.output.pixels(self._default_font_size / 6), 1.4)
        return float(np.clip(side / 12, 1.2, usual))

    def _label_size(self, height: float) -> float:
        """Pick the letters' size, in pixels, for an object ``height`` pixels high."""
        ratio = height / np.sqrt(self.output.height * self.output.width)
        points = np.clip((ratio - 0.02) / 0.08 + 1, 1.2, 2) * 0.5 * self._default_font_size
        return max(self.output.pixels(float(points)), 8.0)

    def _some_color(self) -> RGB:
        return palette_color(self._random.randrange(20))

    def _change_color_brightness(self, color: Any, brightness_factor: float) -> RGB:
        return shade(color, brightness_factor)

    def _draw_text_in_mask(self, binary_mask: np.ndarray, text: str, color: Any) -> None:
        """Write a text on the thickest part of a mask that is not empty."""
        size = self.output.pixels(self._default_font_size)
        x, y = (v * self.output.scale for v in label_spot(binary_mask))
        width, height = tag_size(text, size)
        steps = (0.0, 1.1, -1.1, 2.2, -2.2)
        places = [(x - width / 2, y + (k - 0.5) * height) for k in steps]
        ink = np.maximum(to_rgb(color), 0.2)
        ink[np.argmax(ink)] = max(0.8, ink.max())
        self.output.add_label(Label(text, size, places, to_rgb(ink), _BLACK, 0.75))

    def _jitter(self, color: Any) -> RGB:
        return jitter(color, self._random)

    def _create_grayscale_image(self, mask: Any = None) -> np.ndarray:
        grey = self.img.astype(np.float32).mean(axis=2, keepdims=True).repeat(3, axis=2)
        if mask is not None:
            mask = as_array(mask) != 0
            grey[mask] = self.img[mask]
        return grey
