"""A tracker that matches as many boxes as it can, of those that overlap enough."""

from __future__ import annotations

from typing import Any

import numpy as np

from retinue.config import CfgNode, configurable
from retinue.structures import Instances, pairwise_iou
from retinue.tracking.base_tracker import memory_arguments
from retinue.tracking.hungarian_tracker import BaseHungarianTracker
from retinue.tracking.utils import LARGE_COST_VALUE, create_prediction_pairs

__all__ = ["VanillaHungarianBBoxIOUTracker"]


class VanillaHungarianBBoxIOUTracker(BaseHungarianTracker):
    """All pairs that overlap enough are equally good; the number of matches counts.

    Args:
        track_iou_threshold: the least IoU of two boxes of one object. The others: see
            ``TrackMemory``.
    """

    @configurable
    def __init__(
        self,
        *,
        video_height: int,
        video_width: int,
        max_num_instances: int = 200,
        max_lost_frame_count: int = 0,
        min_box_rel_dim: float = 0.02,
        min_instance_period: int = 1,
        track_iou_threshold: float = 0.5,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            video_height=video_height,
            video_width=video_width,
            max_num_instances=max_num_instances,
            max_lost_frame_count=max_lost_frame_count,
            min_box_rel_dim=min_box_rel_dim,
            min_instance_period=min_instance_period,
        )
        self._track_iou_threshold = track_iou_threshold

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Translate ``cfg.TRACKER_HEADS`` to arguments."""
        return memory_arguments(cfg)

    def build_cost_matrix(self, instances: Instances, prev_instances: Instances) -> np.ndarray:
        """Return the ``(N, M)`` costs of pairing N objects of this frame with M of the last."""
        iou_all = pairwise_iou(instances.pred_boxes, prev_instances.pred_boxes)
        pairs = create_prediction_pairs(
            instances, prev_instances, iou_all, threshold=self._track_iou_threshold
        )
        cost = np.full((len(instances), len(prev_instances)), float(LARGE_COST_VALUE))
        return self.assign_cost_matrix_values(cost, pairs)

    def assign_cost_matrix_values(
        self, cost_matrix: np.ndarray, bbox_pairs: list[dict[str, Any]]
    ) -> np.ndarray:
        """Put the costs of the pairs that may be matched into ``cost_matrix``, and return it."""
        for pair in bbox_pairs:
            cost_matrix[pair["idx"], pair["prev_idx"]] = -1
        return cost_matrix
