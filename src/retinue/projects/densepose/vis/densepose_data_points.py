"""Draws ground truth: annotated points and coarse parts."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from retinue.projects.densepose.structures.data_relative import DensePoseDataRelative
from retinue.projects.densepose.vis.base import Boxes, Image, MatrixVisualizer, PointsVisualizer
from retinue.projects.densepose.vis.drawing import PARULA, apply_colormap

__all__ = [
    "DensePoseDataCoarseSegmentationVisualizer",
    "DensePoseDataPointsIVisualizer",
    "DensePoseDataPointsUVisualizer",
    "DensePoseDataPointsVVisualizer",
    "DensePoseDataPointsVisualizer",
]

Annotated = tuple[Iterable[Boxes], Iterable[DensePoseDataRelative]]


class DensePoseDataCoarseSegmentationVisualizer:
    """Draws coarse parts.

    Args:
        inplace: draw on the picture given; else on a black one.
        cmap: number of a colour map.
        alpha: how much of the colours shows.
        **kwargs: ignored.
    """

    def __init__(
        self, inplace: bool = True, cmap: int = PARULA, alpha: float = 0.7, **kwargs: Any
    ) -> None:
        scale = 255.0 / DensePoseDataRelative.N_BODY_PARTS
        self.mask_visualizer = MatrixVisualizer(inplace, cmap, scale, alpha, interp_method_matrix=0)

    def visualize(self, image_bgr: Image, bbox_densepose_datas: Annotated | None) -> Image:
        """Draw boxes' (x, y, width, height) annotations on a picture; None draws nothing."""
        for box, data in zip(*(bbox_densepose_datas or ((), ())), strict=True):
            labels = data.segm.numpy()
            mask = (labels > 0).astype(np.uint8)
            image_bgr = self.mask_visualizer.visualize(image_bgr, mask, labels, box.tolist())
        return image_bgr


class DensePoseDataPointsVisualizer:
    """Draws annotated points.

    Args:
        densepose_data_to_value_fn: maps an annotation to ``(K,)`` uint8, which are coloured.
        cmap: number of a colour map.
        **kwargs: ignored.
    """

    def __init__(
        self,
        densepose_data_to_value_fn: Callable[[DensePoseDataRelative], np.ndarray] | None = None,
        cmap: int = PARULA,
        **kwargs: Any,
    ) -> None:
        self.points_visualizer = PointsVisualizer()
        self.densepose_data_to_value_fn = densepose_data_to_value_fn
        self.cmap = cmap

    def visualize(self, image_bgr: Image, bbox_densepose_datas: Annotated | None) -> Image:
        """Draw boxes' (x, y, width, height) annotations on a picture; None draws nothing."""
        for box, data in zip(*(bbox_densepose_datas or ((), ())), strict=True):
            x0, y0, w, h = box.tolist()
            x, y = data.x.numpy() * w / 255.0 + x0, data.y.numpy() * h / 255.0 + y0
            colors = None
            if self.densepose_data_to_value_fn is not None:
                values = self.densepose_data_to_value_fn(data)
                colors = apply_colormap(values, self.cmap).tolist()
            points = np.stack([x, y], axis=1).tolist()
            image_bgr = self.points_visualizer.visualize(image_bgr, points, colors)
        return image_bgr


def _u(data: DensePoseDataRelative) -> np.ndarray:
    return (data.u.clamp(0, 1) * 255).numpy().astype(np.uint8)


def _v(data: DensePoseDataRelative) -> np.ndarray:
    return (data.v.clamp(0, 1) * 255).numpy().astype(np.uint8)


def _charts(data: DensePoseDataRelative) -> np.ndarray:
    most = DensePoseDataRelative.N_PART_LABELS
    return (data.i.clamp(0, most) * 255 / most).numpy().astype(np.uint8)


class DensePoseDataPointsUVisualizer(DensePoseDataPointsVisualizer):
    """Colours annotated points by u."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(densepose_data_to_value_fn=_u, **kwargs)


class DensePoseDataPointsVVisualizer(DensePoseDataPointsVisualizer):
    """Colours annotated points by v."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(densepose_data_to_value_fn=_v, **kwargs)


class DensePoseDataPointsIVisualizer(DensePoseDataPointsVisualizer):
    """Colours annotated points by their chart."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(densepose_data_to_value_fn=_charts, **kwargs)
