"""Draws boxes, and their scores."""

from collections.abc import Mapping, Sequence
from typing import Any

from retinue.projects.densepose.vis.base import Image, RectangleVisualizer, TextVisualizer
from retinue.utils.errors import InputError

__all__ = ["BoundingBoxVisualizer", "ScoredBoundingBoxVisualizer"]


class BoundingBoxVisualizer:
    """Draws the outlines of boxes."""

    def __init__(self) -> None:
        self.rectangle_visualizer = RectangleVisualizer()

    def visualize(self, image_bgr: Image, boxes_xywh: Sequence[Any]) -> Image:
        """Draw boxes on a picture."""
        for box in boxes_xywh:
            image_bgr = self.rectangle_visualizer.visualize(image_bgr, box)
        return image_bgr


class ScoredBoundingBoxVisualizer:
    """Draws the outlines of boxes, with scores in their corners.

    Args:
        bbox_visualizer_params: arguments of :class:`.RectangleVisualizer`.
        score_visualizer_params: arguments of :class:`.TextVisualizer`.
        **kwargs: ignored, so that all visualisers can be given the same.
    """

    def __init__(
        self,
        bbox_visualizer_params: Mapping[str, Any] | None = None,
        score_visualizer_params: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self.visualizer_bbox = RectangleVisualizer(**(bbox_visualizer_params or {}))
        self.visualizer_score = TextVisualizer(**(score_visualizer_params or {}))

    def visualize(
        self, image_bgr: Image, scored_bboxes: tuple[Sequence[Any], Sequence[float]]
    ) -> Image:
        """Draw boxes and scores on a picture.

        Raises:
            InputError: If there are not as many scores as boxes.
        """
        boxes, scores = scored_bboxes
        if len(boxes) != len(scores):
            raise InputError(f"expected a score for each of {len(boxes)} boxes; got {len(scores)}")
        for box, score in zip(boxes, scores, strict=True):
            image_bgr = self.visualizer_bbox.visualize(image_bgr, box)
            image_bgr = self.visualizer_score.visualize(image_bgr, f"{float(score):.4f}", box[:2])
        return image_bgr
