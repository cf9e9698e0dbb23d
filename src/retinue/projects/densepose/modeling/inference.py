"""Hands each image its part of the predictions."""

from collections.abc import Sequence
from typing import Any

from retinue.structures import Instances

__all__ = ["densepose_inference"]


def densepose_inference(densepose_predictor_output: Any, detections: Sequence[Instances]) -> None:
    """Set ``pred_densepose`` of each image's detections, in place.

    Args:
        densepose_predictor_output: like :class:`.DensePoseChartPredictorOutput`, for the
            detections of all images; None sets nothing.
        detections: of each image.
    """
    if densepose_predictor_output is None:
        return
    start = 0
    for found in detections:
        end = start + len(found)
        found.pred_densepose = densepose_predictor_output[start:end]
        start = end
