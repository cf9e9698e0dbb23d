"""From predictions of charts to results in the pixels of a box.

Shapes
    C charts with background; S side of a prediction; H, W height and width of a box in pixels.
"""

from typing import Any

import torch

from retinue.projects.densepose.converters.base import IntTupleBox, make_int_box
from retinue.projects.densepose.converters.segm_to_mask import (
    resample_fine_and_coarse_segm_to_bbox,
    stretch,
)
from retinue.projects.densepose.structures.chart import DensePoseChartPredictorOutput
from retinue.projects.densepose.structures.chart_confidence import CONFIDENCES
from retinue.projects.densepose.structures.chart_result import (
    DensePoseChartResult,
    DensePoseChartResultWithConfidences,
)
from retinue.structures import Boxes, BoxMode
from retinue.utils.errors import InputError

__all__ = [
    "densepose_chart_predictor_output_to_result",
    "densepose_chart_predictor_output_to_result_with_confidences",
    "resample_confidences_to_bbox",
    "resample_uv_tensors_to_bbox",
    "resample_uv_to_bbox",
]


def _of_its_chart(
    prediction: torch.Tensor, labels: torch.Tensor, box_xywh_abs: IntTupleBox
) -> torch.Tensor:
    """Read ``(1, C, S, S)`` at each pixel in the channel of its chart: ``(H, W)``, 0 outside."""
    values = stretch(prediction, box_xywh_abs)[0].gather(0, labels[None])[0]
    return torch.where(labels > 0, values, 0)


def resample_uv_tensors_to_bbox(
    u: torch.Tensor, v: torch.Tensor, labels: torch.Tensor, box_xywh_abs: IntTupleBox
) -> torch.Tensor:
    """Give each pixel of a box its coordinates in its chart.

    Args:
        u: ``(1, C, S, S)``.
        v: likewise.
        labels: ``(H, W)`` int64, the chart of each pixel; 0 is background.
        box_xywh_abs: x, y, width, height in whole pixels.

    Returns:
        ``(2, H, W)``, 0 in the background.
    """
    return torch.stack([_of_its_chart(t, labels, box_xywh_abs) for t in (u, v)])


def resample_uv_to_bbox(
    predictor_output: DensePoseChartPredictorOutput,
    labels: torch.Tensor,
    box_xywh_abs: IntTupleBox,
) -> torch.Tensor:
    """Call :func:`resample_uv_tensors_to_bbox` with a prediction for one instance."""
    return resample_uv_tensors_to_bbox(predictor_output.u, predictor_output.v, labels, box_xywh_abs)


def densepose_chart_predictor_output_to_result(
    predictor_output: DensePoseChartPredictorOutput, boxes: Boxes
) -> DensePoseChartResult:
    """Turn a prediction for one instance into charts and coordinates of its box's pixels.

    Raises:
        InputError: If there is not one prediction and one box.
    """
    box = _only_box(predictor_output, boxes)
    labels = resample_fine_and_coarse_segm_to_bbox(predictor_output, box)[0]
    return DensePoseChartResult(labels, resample_uv_to_bbox(predictor_output, labels, box))


def resample_confidences_to_bbox(
    predictor_output: Any, labels: torch.Tensor, box_xywh_abs: IntTupleBox
) -> dict[str, torch.Tensor | None]:
    """Give each pixel of a box its confidences, ``(H, W)`` by name, None for those not predicted.

    A confidence with a channel for each chart is read in that of the pixel's chart, and is 0 in the
    background; one with a single channel is given everywhere.

    Args:
        predictor_output: prediction with confidences for one instance.
        labels: ``(H, W)`` int64, the chart of each pixel.
        box_xywh_abs: x, y, width, height in whole pixels.
    """
    found: dict[str, torch.Tensor | None] = {}
    for name in CONFIDENCES:
        value = getattr(predictor_output, name)
        if value is None:
            found[name] = None
        elif value.shape[1] == predictor_output.u.shape[1]:
            found[name] = _of_its_chart(value, labels, box_xywh_abs)
        else:
            found[name] = stretch(value, box_xywh_abs)[0, 0]
    return found


def densepose_chart_predictor_output_to_result_with_confidences(
    predictor_output: Any, boxes: Boxes
) -> DensePoseChartResultWithConfidences:
    """Do :func:`densepose_chart_predictor_output_to_result`, with confidences."""
    plain = densepose_chart_predictor_output_to_result(predictor_output, boxes)
    box = _only_box(predictor_output, boxes)
    confidences = resample_confidences_to_bbox(predictor_output, plain.labels, box)
    return DensePoseChartResultWithConfidences(plain.labels, plain.uv, **confidences)


def _only_box(predictor_output: Any, boxes: Boxes) -> IntTupleBox:
    if len(predictor_output) != 1 or len(boxes) != 1:
        raise InputError(
            "a chart result is made of one prediction and one box; got"
            f" {len(predictor_output)} and {len(boxes)}; take one by predictions[i], boxes[i]"
        )
    return make_int_box(BoxMode.convert(boxes.tensor, BoxMode.XYXY_ABS, BoxMode.XYWH_ABS)[0])
