"""A tracker that matches boxes so that the sum of their overlaps is largest."""

from __future__ import annotations

from typing import Any

import numpy as np

from retinue.config import CfgNode, configurable
from retinue.tracking.base_tracker import memory_arguments
from retinue.tracking.vanilla_hungarian_bbox_iou_tracker import VanillaHungarianBBoxIOUTracker

__all__ = ["IOUWeightedHungarianBBoxIOUTracker"]


class IOUWeightedHungarianBBoxIOUTracker(VanillaHungarianBBoxIOUTracker):
    """Of the pairs that overlap enough, those that overlap most are matched."""

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
            track_iou_threshold=track_iou_threshold,
        )

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Translate ``cfg.TRACKER_HEADS`` to arguments."""
        return memory_arguments(cfg)

    def assign_cost_matrix_values(
        self, cost_matrix: np.ndarray, bbox_pairs: list[dict[str, Any]]
    ) -> np.ndarray:
        """Put minus the IoU of each pair into ``cost_matrix``, and return it."""
        for pair in bbox_pairs:
            cost_matrix[pair["idx"], pair["prev_idx"]] = -pair["IoU"]
        return cost_matrix
