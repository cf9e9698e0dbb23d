"""A tracker that matches boxes so that the sum of their overlaps is largest."""

from __future__ import annotations

from typing import Any

import numpy as np

from retinue.tracking.vanilla_hungarian_bbox_iou_tracker import VanillaHungarianBBoxIOUTracker

__all__ = ["IOUWeightedHungarianBBoxIOUTracker"]


class IOUWeightedHungarianBBoxIOUTracker(VanillaHungarianBBoxIOUTracker):
    """Of the pairs that overlap enough, those that overlap most are matched."""

    def assign_cost_matrix_values(
        self, cost_matrix: np.ndarray, bbox_pairs: list[dict[str, Any]]
    ) -> np.ndarray:
        """Put minus the IoU of each pair into ``cost_matrix``, and return it."""
        for pair in bbox_pairs:
            cost_matrix[pair["idx"], pair["prev_idx"]] = -pair["IoU"]
        return cost_matrix
