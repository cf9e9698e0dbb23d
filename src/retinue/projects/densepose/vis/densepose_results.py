"""Draws results: charts, u and v in the pixels of boxes, as colours or as contour lines.

Reading order: DensePoseResultsVisualizer.visualize; then a visualiser's visualize_iuv_arr.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from retinue.projects.densepose.structures.chart_result import DensePoseChartResult
from retinue.projects.densepose.structures.data_relative import DensePoseDataRelative
from retinue.projects.densepose.vis.base import Boxes, Image, MatrixVisualizer
from retinue.projects.densepose.vis.drawing import PARULA, apply_colormap, draw

__all__ = [
    "DensePoseMaskedColormapResultsVisualizer",
    "DensePoseResultsContourVisualizer",
    "DensePoseResultsCustomContourVisualizer",
    "DensePoseResultsFineSegmentationVisualizer",
    "DensePoseResultsMplContourVisualizer",
    "DensePoseResultsUVisualizer",
    "DensePoseResultsVVisualizer",
    "DensePoseResultsVisualizer",
]

FOR_OTHERS = ("cfg", "texture_atlas", "texture_atlases_dict")  # of other visualisers
Extractor = Callable[[np.ndarray], np.ndarray]


class DensePoseResultsVisualizer:
    """Base of visualisers of results; draws nothing itself."""

    def visualize(
        self,
        image_bgr: Image,
        results_and_boxes_xywh: tuple[Sequence[DensePoseChartResult] | None, Boxes | None],
    ) -> Image:
        """Draw results for boxes (x, y, width, height) on a picture; None draws nothing."""
        results, boxes = results_and_boxes_xywh
        if results is None or boxes is None:
            return image_bgr
        context = self.create_visualization_context(image_bgr)
        for result, box in zip(results, boxes.cpu().numpy(), strict=True):
            coordinates = (result.uv * 255).to(torch.uint8)
            iuv = torch.cat([result.labels[None].to(torch.uint8), coordinates])
            self.visualize_iuv_arr(context, iuv.cpu().numpy(), box)
        return self.context_to_image_bgr(context)

    def create_visualization_context(self, image_bgr: Image) -> Any:
        """Return what is drawn on: the picture."""
        return image_bgr

    def visualize_iuv_arr(self, context: Any, iuv_arr: np.ndarray, bbox_xywh: Any) -> None:
        """Draw charts, u and v ``(3, h, w)`` uint8 of a box."""

    def context_to_image_bgr(self, context: Any) -> Image:
        """Return the picture of what was drawn on."""
        return self.get_image_bgr_from_context(context)

    def get_image_bgr_from_context(self, context: Any) -> Image:
        """Return the picture to draw on."""
        image: Image = context
        return image


class DensePoseMaskedColormapResultsVisualizer(DensePoseResultsVisualizer):
    """Colours the pixels of bodies.

    Args:
        data_extractor: gives the values ``(h, w)`` of charts, u and v ``(3, h, w)``.
        segm_extractor: gives what is 0 in the background.
        inplace: draw on the picture given; else on a black one.
        cmap: number of a colour map.
        alpha: how much of the colours shows.
        val_scale: what values are multiplied by to lie between 0 and 255.
        **kwargs: ignored.
    """

    def __init__(
        self,
        data_extractor: Extractor,
        segm_extractor: Extractor,
        inplace: bool = True,
        cmap: int = PARULA,
        alpha: float = 0.7,
        val_scale: float = 1.0,
        **kwargs: Any,
    ) -> None:
        self.mask_visualizer = MatrixVisualizer(inplace, cmap, val_scale, alpha)
        self.data_extractor = data_extractor
        self.segm_extractor = segm_extractor

    def context_to_image_bgr(self, context: Any) -> Image:
        """Return the picture."""
        return super().context_to_image_bgr(context)

    def visualize_iuv_arr(self, context: Any, iuv_arr: np.ndarray, bbox_xywh: Any) -> None:
        """Draw a box."""
        matrix = self.data_extractor(iuv_arr)
        mask = (self.segm_extractor(iuv_arr) > 0).astype(np.uint8)
        self.mask_visualizer.visualize(
            self.get_image_bgr_from_context(context), mask, matrix, bbox_xywh
        )


def _charts(iuv: np.ndarray) -> np.ndarray:
    return iuv[0]


def _u(iuv: np.ndarray) -> np.ndarray:
    return iuv[1]


def _v(iuv: np.ndarray) -> np.ndarray:
    return iuv[2]


class DensePoseResultsFineSegmentationVisualizer(DensePoseMaskedColormapResultsVisualizer):
    """Draws charts; arguments are those of the base."""

    def __init__(
        self, inplace: bool = True, cmap: int = PARULA, alpha: float = 0.7, **kwargs: Any
    ) -> None:
        scale = 255.0 / DensePoseDataRelative.N_PART_LABELS
        super().__init__(_charts, _charts, inplace, cmap, alpha, val_scale=scale, **kwargs)


class DensePoseResultsUVisualizer(DensePoseMaskedColormapResultsVisualizer):
    """Draws u; arguments are those of the base."""

    def __init__(
        self, inplace: bool = True, cmap: int = PARULA, alpha: float = 0.7, **kwargs: Any
    ) -> None:
        super().__init__(_u, _charts, inplace, cmap, alpha, **kwargs)


class DensePoseResultsVVisualizer(DensePoseMaskedColormapResultsVisualizer):
    """Draws v; arguments are those of the base."""

    def __init__(
        self, inplace: bool = True, cmap: int = PARULA, alpha: float = 0.7, **kwargs: Any
    ) -> None:
        super().__init__(_v, _charts, inplace, cmap, alpha, **kwargs)


class DensePoseResultsMplContourVisualizer(DensePoseResultsVisualizer):
    """Draws lines of equal u and v with matplotlib.

    Args:
        levels: how many lines, or the values of lines.
        **kwargs: for ``contour``; what ``apply_net.py`` gives to every visualiser is ignored.
    """

    def __init__(self, levels: Any = 10, **kwargs: Any) -> None:
        self.levels = levels
        self.plot_args = {k: v for k, v in kwargs.items() if k not in FOR_OTHERS}

    def create_visualization_context(self, image_bgr: Image) -> Any:
        """Return a figure of the picture, pixel for pixel, and its axes."""
        try:
            from matplotlib.backends.backend_agg import FigureCanvasAgg
            from matplotlib.figure import Figure
        except ImportError as error:
            raise ImportError("contours need matplotlib: pip install retinue[plot]") from error
        height, width = image_bgr.shape[:2]
        figure = Figure(figsize=(width / 100, height / 100), dpi=100)
        canvas = FigureCanvasAgg(figure)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.axis("off")
        axes.imshow(image_bgr[:, :, ::-1], extent=(0, width, height, 0))
        return {"fig": figure, "canvas": canvas, "axes": axes, "image_bgr": image_bgr}

    def context_to_image_bgr(self, context: Any) -> Image:
        """Return the picture of the figure."""
        context["canvas"].draw()
        rgba = np.asarray(context["canvas"].buffer_rgba())
        return np.ascontiguousarray(rgba[:, :, 2::-1])

    def visualize_iuv_arr(self, context: Any, iuv_arr: np.ndarray, bbox_xywh: Any) -> None:
        """Draw a box."""
        x, y, w, h = (float(number) for number in bbox_xywh)
        if min(iuv_arr.shape[1:]) < 2:  # no line runs between single pixels
            return
        for values in iuv_arr[1:].astype(float) / 255.0:
            if np.ptp(values):
                context["axes"].contour(
                    values, self.levels, extent=(x, x + w, y, y + h), **self.plot_args
                )


class DensePoseResultsCustomContourVisualizer(DensePoseResultsVisualizer):
    """Draws lines of equal u and v, chart by chart, by marching squares.

    Args:
        levels: how many lines between 0 and 1, or the values of lines.
        **kwargs: ``linewidths``, one of each line in pixels; others are ignored.
    """

    def __init__(self, levels: Any = 10, **kwargs: Any) -> None:
        self.levels = np.linspace(0, 1, levels) if isinstance(levels, int) else np.asarray(levels)
        self.linewidths = kwargs.get("linewidths", [1] * len(self.levels))
        self.plot_args = kwargs
        self.level_colors_bgr = apply_colormap(self.levels * 255, PARULA).tolist()

    def visualize_iuv_arr(self, context: Any, iuv_arr: np.ndarray, bbox_xywh: Any) -> None:
        """Draw a box."""
        image = self.get_image_bgr_from_context(context)
        charts, values = iuv_arr[0], iuv_arr[1:].astype(float) / 255.0
        height, width = charts.shape
        if min(height, width) < 2:
            return
        x, y, w, h = (float(number) for number in bbox_xywh)
        scale = np.array([w / (width - 1), h / (height - 1)])

        def paint(pen: Any) -> None:
            for chart in set(np.unique(charts)) - {0}:
                for array in values:
                    self._paint_chart(pen, array, charts == chart, np.array([x, y]), scale)

        draw(image, paint)

    def _paint_chart(
        self, pen: Any, array: np.ndarray, mask: np.ndarray, start: np.ndarray, scale: np.ndarray
    ) -> None:
        low, high = array[mask].min(), array[mask].max()
        rows = zip(self.levels, self.level_colors_bgr, self.linewidths, strict=True)
        for level, color, width in rows:
            if low <= level <= high:
                for line in _contour_segments(array, mask, level):
                    points = (start + line * scale).ravel().tolist()
                    pen.line(points, fill=tuple(color), width=width)


def _contour_segments(array: np.ndarray, mask: np.ndarray, level: float) -> Iterator[np.ndarray]:
    """Yield the pieces ``(2, 2)``, from x, y to x, y, of the line where an array has a value.

    Each cell between four neighbours, one of them at least in the mask, is crossed by none, one or
    two pieces, which end where the value lies between two corners.
    """
    corners = np.array([(0, 0), (0, 1), (1, 1), (1, 0)])  # row, column; around the cell
    height, width = array.shape

    def at(values: np.ndarray) -> np.ndarray:
        cells = [values[r : height - 1 + r, c : width - 1 + c] for r, c in corners]
        return np.stack(cells, axis=-1)  # (h - 1, w - 1, 4)

    values = at(array)
    inside = values >= level
    crossed = inside != np.roll(inside, -1, axis=-1)  # side k runs from corner k to the next
    for row, column in np.argwhere(crossed.any(axis=-1) & at(mask).any(axis=-1)):
        cell = values[row, column]
        ends = []
        for side in np.flatnonzero(crossed[row, column]):
            a, b = cell[side], cell[(side + 1) % 4]
            along = corners[(side + 1) % 4] - corners[side]
            point = corners[side] + (level - a) / (b - a) * along
            ends.append((column + point[1], row + point[0]))
        for first in range(0, len(ends), 2):
            yield np.array(ends[first : first + 2])


DensePoseResultsContourVisualizer = DensePoseResultsMplContourVisualizer
