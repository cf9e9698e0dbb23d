"""Anti-aliased drawing on a Pillow picture: polygons, lines, boxes, disks, masks and text tags.

Everything is painted through a coverage map: how much of each pixel a shape covers, 0 to 255.
Vector shapes get theirs from a drawing of 4 times the size, masks from a slight blur.

Shapes
    H, W rows and columns of the picture; P points.

Units
    x, y in pixels of the picture, (0, 0) is the top-left corner of the top-left pixel.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from retinue.visualization.colors import to_bytes

_Points = Callable[[np.ndarray], list[tuple[float, float]]]

__all__ = ["Canvas", "dashes", "load_font", "text_size"]

_MAX_SUPERSAMPLED = 24_000_000  # pixels; beyond, shapes are drawn less finely

# Fonts with more than Latin letters, where a system has them. Pillow's own has Latin only.
_WIDE_FONTS = (
    "NotoSansCJK-Regular.ttc", "Arial Unicode.ttf", "msyh.ttc", "PingFang.ttc", "DejaVuSans.ttf",
)  # fmt: skip


@functools.lru_cache(maxsize=64)
def load_font(size: float, *, latin: bool = True) -> Any:
    """Return Pillow's own font, or for other scripts one of the system's, at ``size`` pixels."""
    if not latin:
        for name in _WIDE_FONTS:
            try:
                return ImageFont.truetype(name, size)
            except OSError:
                continue
    try:
        return ImageFont.load_default(size)
    except (TypeError, OSError):  # Pillow 10.0, or one built without FreeType
        return ImageFont.load_default()


def _font_for(text: str, size: float) -> Any:
    return load_font(round(size * 2) / 2, latin=all(ord(c) < 0x250 for c in text))


def text_size(text: str, size: float) -> tuple[float, float]:
    """Return width and line height, in pixels, of a text set at ``size`` pixels."""
    font = _font_for(text, size)
    left, _, right, _ = font.getbbox(text)
    return right - min(left, 0), size * 1.18


def dashes(points: np.ndarray, style: str, width: float) -> list[np.ndarray]:
    """Cut a line ``(P, 2)`` into the pieces that a matplotlib line style draws.

    Args:
        points: corners of the line.
        style: ``"-"``, ``"--"``, ``":"``, ``"-."`` or their names.
        width: of the line, in pixels; dashes are multiples of it.
    """
    patterns = {
        "--": (3.7, 1.6), "dashed": (3.7, 1.6),
        ":": (1.0, 1.65), "dotted": (1.0, 1.65),
        "-.": (6.4, 1.6, 1.0, 1.6), "dashdot": (6.4, 1.6, 1.0, 1.6),
    }  # fmt: skip
    if style not in patterns or len(points) < 2:
        return [points]
    lengths = np.hypot(*np.diff(points, axis=0).T)
    at = np.concatenate([[0.0], np.cumsum(lengths)])  # distance along the line of each corner
    pattern = [p * max(width, 1.0) for p in patterns[style]]
    pieces = []
    position = 0.0
    for index in range(10_000):
        length = pattern[index % len(pattern)]
        if position >= at[-1]:
            break
        if index % 2 == 0:
            end = min(position + length, at[-1])
            inner = (at > position) & (at < end)
            knots = np.concatenate([[position], at[inner], [end]])
            pieces.append(np.stack([np.interp(knots, at, c) for c in points.T], axis=1))
        position += length
    return pieces


class Canvas:
    """A picture that shapes are painted on.

    Attributes:
        image: the Pillow picture, mode RGB; changed in place.
    """

    def __init__(self, image: Image.Image) -> None:
        self.image = image

    def _paint(
        self, coverage: Image.Image, at_xy: tuple[int, int], color: Any, alpha: float
    ) -> None:
        if alpha < 1:
            coverage = coverage.point([round(v * alpha) for v in range(256)])
        x, y = at_xy
        box = (x, y, x + coverage.width, y + coverage.height)
        self.image.paste(to_bytes(color), box, coverage)

    def _supersample(
        self,
        bounds: Sequence[float],
        draw: Callable[[ImageDraw.ImageDraw, _Points, int], None],
        color: Any,
        alpha: float,
    ) -> None:
        """Call ``draw(drawing, to_fine, k)`` on a map of ``k`` times the size and paint that."""
        x0, y0 = max(math.floor(bounds[0]), 0), max(math.floor(bounds[1]), 0)
        x1 = min(math.ceil(bounds[2]), self.image.width)
        y1 = min(math.ceil(bounds[3]), self.image.height)
        if x1 <= x0 or y1 <= y0:
            return
        size = (x1 - x0) * (y1 - y0)
        k = max(1, min(4, math.isqrt(_MAX_SUPERSAMPLED // size)))
        fine = Image.new("L", ((x1 - x0) * k, (y1 - y0) * k))

        def to_fine(points: np.ndarray) -> list[tuple[float, float]]:
            # Pillow's coordinates name pixel centres.
            moved = (np.asarray(points, dtype=np.float64) - (x0, y0)) * k - 0.5
            return [(x, y) for x, y in moved.tolist()]

        draw(ImageDraw.Draw(fine), to_fine, k)
        self._paint(fine.reduce(k) if k > 1 else fine, (x0, y0), color, alpha)

    def polygon(self, points: np.ndarray, color: Any, *, alpha: float = 1.0) -> None:
        """Fill a polygon ``(P, 2)``."""
        if len(points) < 3:
            return
        bounds = (*points.min(axis=0), *points.max(axis=0))
        self._supersample(
            bounds, lambda d, fine, k: d.polygon(fine(points), fill=255), color, alpha
        )

    def line(
        self,
        points: np.ndarray,
        color: Any,
        *,
        width: float = 1.0,
        alpha: float = 1.0,
        style: str = "-",
        closed: bool = False,
    ) -> None:
        """Draw a line through ``(P, 2)`` points, with round joints and ends."""
        points = np.asarray(points, dtype=np.float64).reshape(-1, 2)
        if len(points) == 0:
            return
        if closed:
            points = np.concatenate([points, points[:1]])
        pieces = dashes(points, style, width)
        margin = width / 2 + 1
        low, high = points.min(axis=0) - margin, points.max(axis=0) + margin

        def draw(drawing: ImageDraw.ImageDraw, fine: _Points, k: int) -> None:
            radius = width * k / 2
            for piece in pieces:
                corners = fine(piece)
                drawing.line(corners, fill=255, width=max(1, round(width * k)))
                if radius >= 1:
                    for x, y in corners:
                        drawing.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)

        self._supersample((*low, *high), draw, color, alpha)

    def box(
        self, box_xyxy: Sequence[float], color: Any, *, width: float, alpha: float = 1.0
    ) -> None:
        """Draw the outline of a box; its coverage follows from that of rows and columns."""
        x0, y0, x1, y1 = (float(v) for v in box_xyxy)
        x0, x1, y0, y1 = min(x0, x1), max(x0, x1), min(y0, y1), max(y0, y1)
        half = width / 2
        left, top = max(0, math.floor(x0 - half)), max(0, math.floor(y0 - half))
        right = min(self.image.width, math.ceil(x1 + half))
        bottom = min(self.image.height, math.ceil(y1 + half))
        if right <= left or bottom <= top:
            return

        def covered(start: int, stop: int, low: float, high: float) -> np.ndarray:
            cells = np.arange(start, stop)
            return (np.minimum(cells + 1, high) - np.maximum(cells, low)).clip(0, 1)

        outer = np.outer(
            covered(top, bottom, y0 - half, y1 + half), covered(left, right, x0 - half, x1 + half)
        )
        inner = np.outer(
            covered(top, bottom, y0 + half, y1 - half), covered(left, right, x0 + half, x1 - half)
        )
        coverage = Image.fromarray(np.rint((outer - inner) * 255).astype(np.uint8))
        self._paint(coverage, (left, top), color, alpha)

    def disk(
        self, center_xy: Sequence[float], radius: float, color: Any, *, alpha: float = 1.0
    ) -> None:
        """Fill a disk."""
        x, y = (float(v) for v in center_xy)
        corners = np.asarray([[x - radius, y - radius], [x + radius, y + radius]])

        def draw(drawing: ImageDraw.ImageDraw, fine: _Points, k: int) -> None:
            (ax, ay), (bx, by) = fine(corners)
            drawing.ellipse((ax + 0.5, ay + 0.5, bx - 0.5, by - 0.5), fill=255)

        self._supersample((*corners[0], *corners[1]), draw, color, alpha)

    def soft_mask(self, mask: np.ndarray, color: Any, *, alpha: float = 1.0) -> None:
        """Paint a mask ``(h, w)`` with values in [0, 1], stretched over the whole picture."""
        levels = Image.fromarray(np.rint(np.clip(mask, 0, 1) * 255).astype(np.uint8))
        if levels.size != self.image.size:
            levels = levels.resize(self.image.size, Image.Resampling.BILINEAR)
        self._paint(levels, (0, 0), color, alpha)

    def mask(
        self,
        mask: np.ndarray,
        color: Any,
        *,
        alpha: float = 0.5,
        edge_color: Any = None,
        edge_width: float = 1.5,
    ) -> None:
        """Paint a binary mask ``(h, w)``, stretched over the whole picture, with a smooth outline.

        Both get their coverage from the distance to the border. Borders along pixel borders stay
        exactly sharp.
        """
        ys, xs = np.nonzero(mask.any(axis=1))[0], np.nonzero(mask.any(axis=0))[0]
        if len(ys) == 0:
            return
        scale_x, scale_y = self.image.width / mask.shape[1], self.image.height / mask.shape[0]
        pad = 2 + math.ceil(edge_width / min(scale_x, scale_y))
        y0, y1 = max(0, ys[0] - pad), min(mask.shape[0], ys[-1] + 1 + pad)
        x0, x1 = max(0, xs[0] - pad), min(mask.shape[1], xs[-1] + 1 + pad)
        left, top = round(x0 * scale_x), round(y0 * scale_y)
        right, bottom = round(x1 * scale_x), round(y1 * scale_y)
        crop = Image.fromarray(np.where(mask[y0:y1, x0:x1], np.uint8(255), np.uint8(0)))
        crop = crop.resize((right - left, bottom - top), Image.Resampling.NEAREST)

        # Enough to melt the steps of enlarged pixels, and at least what one pixel needs.
        inside = _distance_inside(crop, max(0.8, 0.55 * min(scale_x, scale_y)))
        # A little steeper than one pixel a pixel, so that an exact half pixel is inside or outside.
        fill = np.clip(inside * 1.3 + 0.5, 0, 1)
        self._paint(_levels(fill), (left, top), color, alpha)
        if edge_color is not None:  # a band inside the border, as far as the blur reaches
            inside = _distance_inside(crop, (edge_width + 1) / 1.1)
            band = np.minimum(fill, np.clip(edge_width - inside + 0.5, 0, 1))
            self._paint(_levels(band), (left, top), edge_color, 1.0)

    def tag(
        self,
        text: str,
        at_xy: Sequence[float],
        *,
        size: float,
        color: Any,
        background: Any,
        background_alpha: float = 1.0,
        rotation: float = 0.0,
    ) -> None:
        """Write a text on a rounded plate whose top-left corner is ``at_xy``.

        Args:
            text: one line.
            at_xy: top-left corner of the plate before it is turned around that corner.
            size: of the letters, in pixels.
            color: of the letters.
            background: of the plate.
            background_alpha: opacity of the plate.
            rotation: degrees counter-clockwise.
        """
        plate = _plate(text, size, color, background, background_alpha)
        x, y = at_xy
        if rotation % 360:
            radians = math.radians(rotation)
            cos, sin = math.cos(radians), math.sin(radians)
            corners = [(0, 0), (plate.width, 0), (0, plate.height), (plate.width, plate.height)]
            x += min(cx * cos + cy * sin for cx, cy in corners)
            y += min(cy * cos - cx * sin for cx, cy in corners)
            plate = plate.rotate(rotation, Image.Resampling.BICUBIC, expand=True)
        self.image.paste(plate.convert("RGB"), (round(x), round(y)), plate.getchannel("A"))


def _distance_inside(mask: Image.Image, deviation: float) -> np.ndarray:
    """Estimate how far inside a mask (0 or 255) each pixel is, up to 1.2 deviations either way.

    Blurred by a Gaussian of deviation s, a straight border has the slope 1 / (s sqrt(2 pi)), so
    that near the border the blurred mask is its own signed distance.
    """
    blurred = np.asarray(mask.filter(ImageFilter.GaussianBlur(deviation)), dtype=np.float32)
    return (blurred / 255 - 0.5) * (deviation * math.sqrt(2 * math.pi))


def _levels(coverage: np.ndarray) -> Image.Image:
    return Image.fromarray(np.rint(coverage * 255).astype(np.uint8))


def tag_size(text: str, size: float) -> tuple[int, int]:
    """Return width and height, in pixels, of the plate that ``Canvas.tag`` draws."""
    width, height = text_size(text, size)
    return math.ceil(width + 0.6 * size), math.ceil(height + 0.2 * size)


def _plate(
    text: str, size: float, color: Any, background: Any, background_alpha: float
) -> Image.Image:
    """Draw a text on a rounded plate, mode RGBA."""
    width, height = tag_size(text, size)
    k = 4
    fine = Image.new("L", (width * k, height * k))
    ImageDraw.Draw(fine).rounded_rectangle(
        (0, 0, width * k - 1, height * k - 1), radius=0.28 * size * k, fill=255
    )
    shape = fine.reduce(k).point([round(v * background_alpha) for v in range(256)])
    plate = Image.new("RGBA", (width, height), (*to_bytes(background), 0))
    plate.putalpha(shape)
    letters = Image.new("L", (width, height))
    ImageDraw.Draw(letters).text(
        (0.3 * size, height / 2), text, fill=255, font=_font_for(text, size), anchor="lm"
    )
    plate.paste((*to_bytes(color), 255), (0, 0), letters)
    return plate
