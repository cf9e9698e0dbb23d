"""Takes out of a model's instances what a visualiser draws.

An extractor is called with instances and, maybe, which of them: a mask or list.
"""

import logging
from collections.abc import Sequence
from typing import Any

import torch

from retinue.layers import batched_nms
from retinue.projects.densepose.converters.to_chart_result import (
    ToChartResultConverterWithConfidences,
)
from retinue.projects.densepose.structures.chart_result import DensePoseChartResultWithConfidences
from retinue.projects.densepose.vis.base import CompoundVisualizer
from retinue.projects.densepose.vis.bounding_box import (
    BoundingBoxVisualizer,
    ScoredBoundingBoxVisualizer,
)
from retinue.projects.densepose.vis.densepose_outputs_vertex import (
    DensePoseOutputsVertexVisualizer,
)
from retinue.projects.densepose.vis.densepose_results import DensePoseResultsVisualizer
from retinue.structures import BoxMode, Instances

__all__ = [
    "BoundingBoxExtractor",
    "CompoundExtractor",
    "DensePoseChartResultsWithConfidences",
    "DensePoseOutputsExtractor",
    "DensePoseResultExtractor",
    "NmsFilteredExtractor",
    "ScoreThresholdedExtractor",
    "ScoredBoundingBoxExtractor",
    "Scores",
    "create_extractor",
    "extract_boxes_xywh_from_instances",
    "extract_scores_from_instances",
]

Scores = Sequence[float]
DensePoseChartResultsWithConfidences = list[DensePoseChartResultWithConfidences]
logger = logging.getLogger(__name__)


def extract_scores_from_instances(instances: Instances, select: Any = None) -> Any:
    """Return ``scores``; None if there are none."""
    if not instances.has("scores"):
        return None
    return instances.scores if select is None else instances.scores[select]


def extract_boxes_xywh_from_instances(instances: Instances, select: Any = None) -> Any:
    """Return ``pred_boxes`` as ``(N, 4)`` x, y, width, height; None if there are none."""
    if not instances.has("pred_boxes"):
        return None
    boxes = BoxMode.convert(instances.pred_boxes.tensor, BoxMode.XYXY_ABS, BoxMode.XYWH_ABS)
    return boxes if select is None else boxes[select]


def create_extractor(visualizer: object) -> Any:
    """Make the extractor for a visualiser; None, with a message, if there is none."""
    if isinstance(visualizer, CompoundVisualizer):
        return CompoundExtractor([create_extractor(v) for v in visualizer.visualizers])
    if isinstance(visualizer, DensePoseResultsVisualizer):
        return DensePoseResultExtractor()
    if isinstance(visualizer, ScoredBoundingBoxVisualizer):
        return CompoundExtractor([extract_boxes_xywh_from_instances, extract_scores_from_instances])
    if isinstance(visualizer, BoundingBoxVisualizer):
        return extract_boxes_xywh_from_instances
    if isinstance(visualizer, DensePoseOutputsVertexVisualizer):
        return DensePoseOutputsExtractor()
    logger.error("There is no extractor for a %s", type(visualizer).__name__)
    return None


class BoundingBoxExtractor:
    """Takes boxes."""

    def __call__(self, instances: Instances) -> Any:
        """Return ``(N, 4)``, x, y, width, height."""
        return extract_boxes_xywh_from_instances(instances)


class ScoredBoundingBoxExtractor:
    """Takes boxes and scores."""

    def __call__(self, instances: Instances, select: Any = None) -> tuple[Any, Any]:
        """Return ``(N, 4)``, x, y, width, height, and ``(N,)``."""
        boxes = extract_boxes_xywh_from_instances(instances, select)
        return boxes, extract_scores_from_instances(instances, select)


class DensePoseResultExtractor:
    """Takes results of charts, with confidences if they were predicted, and boxes."""

    def __call__(self, instances: Instances, select: Any = None) -> tuple[Any, Any]:
        """Return a list of N results, and ``(N, 4)``; None, None if there are none."""
        if not (instances.has("pred_densepose") and instances.has("pred_boxes")):
            return None, None
        chosen = instances if select is None else instances[select]
        output = _with_confidences(chosen.pred_densepose)
        results = [
            ToChartResultConverterWithConfidences.convert(output[i], chosen.pred_boxes[i])
            for i in range(len(chosen))
        ]
        return results, extract_boxes_xywh_from_instances(chosen)


def _with_confidences(output: Any) -> Any:
    """Give a plain prediction of charts confidences that are None."""
    from retinue.projects.densepose.structures.chart_confidence import (
        decorate_predictor_output_class_with_confidences,
    )

    if hasattr(output, "sigma_2"):
        return output
    plain: Any = type(output)
    return decorate_predictor_output_class_with_confidences(plain)(**vars(output))


class DensePoseOutputsExtractor:
    """Takes predictions as they are, boxes and classes."""

    def __call__(self, instances: Instances, select: Any = None) -> tuple[Any, Any, Any]:
        """Return N predictions, ``(N, 4)``, and N classes; None of all if there are none."""
        if not (instances.has("pred_densepose") and instances.has("pred_boxes")):
            return None, None, None
        chosen = instances if select is None else instances[select]
        classes = chosen.pred_classes.tolist() if chosen.has("pred_classes") else None
        return chosen.pred_densepose, extract_boxes_xywh_from_instances(chosen), classes


class CompoundExtractor:
    """Takes what several visualisers draw.

    Args:
        extractors: of each.
    """

    def __init__(self, extractors: Sequence[Any]) -> None:
        self.extractors = extractors

    def __call__(self, instances: Instances, select: Any = None) -> list[Any]:
        """Return what each takes."""
        return [extractor(instances, select) for extractor in self.extractors]


class NmsFilteredExtractor:
    """Takes of instances that overlap only the best.

    Args:
        extractor: what is taken of those.
        iou_threshold: from which on two overlap.
    """

    def __init__(self, extractor: Any, iou_threshold: float) -> None:
        self.extractor = extractor
        self.iou_threshold = iou_threshold

    def __call__(self, instances: Instances, select: Any = None) -> Any:
        """Return what is taken; None without boxes."""
        if not (instances.has("pred_boxes") and instances.has("scores")):
            return None
        boxes, scores = instances.pred_boxes.tensor, instances.scores
        one_class = torch.zeros(len(scores), dtype=torch.int64, device=boxes.device)
        kept = torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device)
        kept[batched_nms(boxes, scores, one_class, self.iou_threshold)] = True
        return self.extractor(instances, select=kept if select is None else select & kept)


class ScoreThresholdedExtractor:
    """Takes of instances only those with a higher score.

    Args:
        extractor: what is taken of those.
        min_score: which theirs exceeds.
    """

    def __init__(self, extractor: Any, min_score: float) -> None:
        self.extractor = extractor
        self.min_score = min_score

    def __call__(self, instances: Instances, select: Any = None) -> Any:
        """Return what is taken; None without scores."""
        scores = extract_scores_from_instances(instances)
        if scores is None:
            return None
        kept = scores > self.min_score
        return self.extractor(instances, select=kept if select is None else select & kept)
