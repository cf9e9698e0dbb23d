"""Draws predictions of charts as the predictor gives them, stretched over their boxes."""

from typing import Any

import numpy as np

from retinue.projects.densepose.structures.chart import DensePoseChartPredictorOutput
from retinue.projects.densepose.structures.data_relative import DensePoseDataRelative
from retinue.projects.densepose.vis.base import Boxes, Image, MatrixVisualizer
from retinue.projects.densepose.vis.drawing import PARULA
from retinue.utils.errors import InputError, unknown_name

__all__ = [
    "DensePoseOutputsFineSegmentationVisualizer",
    "DensePoseOutputsUVisualizer",
    "DensePoseOutputsVVisualizer",
    "DensePoseOutputsVisualizer",
]


class DensePoseOutputsVisualizer:
    """Draws charts, u or v.

    Args:
        inplace: draw on the picture given; else on a black one.
        cmap: number of a colour map.
        alpha: how much of the colours shows.
        to_visualize: ``"I"``, ``"U"`` or ``"V"``.
        **kwargs: ignored.

    Raises:
        UnknownNameError: If ``to_visualize`` is none of these.
    """

    def __init__(
        self,
        inplace: bool = True,
        cmap: int = PARULA,
        alpha: float = 0.7,
        to_visualize: str | None = None,
        **kwargs: Any,
    ) -> None:
        if to_visualize not in ("I", "U", "V"):
            raise unknown_name("output to visualize", str(to_visualize), "IUV")
        self.to_visualize = to_visualize
        scale = 255.0 / DensePoseDataRelative.N_PART_LABELS if to_visualize == "I" else 1.0
        self.mask_visualizer = MatrixVisualizer(inplace, cmap, scale, alpha)

    def visualize(
        self,
        image_bgr: Image,
        dp_output_with_bboxes: tuple[DensePoseChartPredictorOutput | None, Boxes | None],
    ) -> Image:
        """Draw the predictions for boxes (x, y, width, height); None draws nothing.

        Raises:
            InputError: If they are no predictions of charts, or not one for each box.
        """
        output, boxes = dp_output_with_bboxes
        if output is None or boxes is None:
            return image_bgr
        if not isinstance(output, DensePoseChartPredictorOutput) or len(output) != len(boxes):
            raise InputError(
                f"expected a DensePoseChartPredictorOutput of {len(boxes)} instances; got"
                f" {type(output).__name__}"
            )
        charts = output.fine_segm.argmax(dim=1) * (output.coarse_segm.argmax(dim=1) > 0)
        values = charts
        if self.to_visualize != "I":
            field = output.u if self.to_visualize == "U" else output.v
            values = field.gather(1, charts[:, None])[:, 0].clamp(0, 1) * 255
        for chart, value, box in zip(charts, values, boxes, strict=True):
            mask = (chart > 0).cpu().numpy().astype(np.uint8)
            matrix = value.detach().cpu().numpy().astype(np.float32)
            image_bgr = self.mask_visualizer.visualize(image_bgr, mask, matrix, box.tolist())
        return image_bgr


class DensePoseOutputsUVisualizer(DensePoseOutputsVisualizer):
    """Draws u; arguments are those of :class:`DensePoseOutputsVisualizer`."""

    def __init__(
        self, inplace: bool = True, cmap: int = PARULA, alpha: float = 0.7, **kwargs: Any
    ) -> None:
        super().__init__(inplace=inplace, cmap=cmap, alpha=alpha, to_visualize="U", **kwargs)


class DensePoseOutputsVVisualizer(DensePoseOutputsVisualizer):
    """Draws v; arguments are those of :class:`DensePoseOutputsVisualizer`."""

    def __init__(
        self, inplace: bool = True, cmap: int = PARULA, alpha: float = 0.7, **kwargs: Any
    ) -> None:
        super().__init__(inplace=inplace, cmap=cmap, alpha=alpha, to_visualize="V", **kwargs)


class DensePoseOutputsFineSegmentationVisualizer(DensePoseOutputsVisualizer):
    """Draws charts; arguments are those of :class:`DensePoseOutputsVisualizer`."""

    def __init__(
        self, inplace: bool = True, cmap: int = PARULA, alpha: float = 0.7, **kwargs: Any
    ) -> None:
        super().__init__(inplace=inplace, cmap=cmap, alpha=alpha, to_visualize="I", **kwargs)
