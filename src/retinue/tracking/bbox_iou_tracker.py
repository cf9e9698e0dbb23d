"""A tracker that follows boxes greedily, those with the largest overlap first."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch

from retinue.config import CfgNode, configurable
from retinue.structures import Instances, pairwise_iou
from retinue.tracking.base_tracker import TrackMemory, memory_arguments
from retinue.tracking.utils import create_prediction_pairs

__all__ = ["BBoxIOUTracker"]


class BBoxIOUTracker(TrackMemory):
    """An object keeps the ID of the box in the last frame that it overlaps most.

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

    def update(self, instances: Instances) -> Instances:
        """Take the predictions of the next frame; return them with IDs."""
        instances = self._initialize_extra_fields(instances)
        if self._prev_instances is not None:
            iou_all = pairwise_iou(instances.pred_boxes, self._prev_instances.pred_boxes)
            pairs = self._create_prediction_pairs(instances, iou_all)
            self._reset_fields()
            for pair in sorted(pairs, key=lambda pair: -pair["IoU"]):
                is_taken = pair["idx"] in self._matched_idx or pair["prev_id"] in self._matched_ID
                if is_taken or pair["IoU"] < self._track_iou_threshold:
                    continue
                self._continue_track(instances, pair["idx"], pair["prev_idx"])
                self._matched_idx.add(pair["idx"])
                self._matched_ID.add(pair["prev_id"])
                self._untracked_prev_idx.remove(pair["prev_idx"])
            instances = self._assign_new_id(instances)
            instances = self._merge_untracked_instances(instances)
        self._prev_instances = copy.deepcopy(instances)
        return instances

    def _create_prediction_pairs(
        self, instances: Instances, iou_all: np.ndarray | torch.Tensor
    ) -> list[dict[str, Any]]:
        """List all pairs of an object of this frame and one of the last, with their IoU."""
        assert self._prev_instances is not None
        return create_prediction_pairs(
            instances, self._prev_instances, iou_all, threshold=-float("inf")
        )

    def _reset_fields(self) -> None:
        """Forget the matches of the frame before."""
        self._matched_idx = set()
        self._matched_ID = set()
        self._untracked_prev_idx = set(range(len(self._prev_instances or ())))

    def _assign_new_id(self, instances: Instances) -> Instances:
        """Give new IDs to the objects that match none of the last frame's."""
        return self._start_tracks(instances, self._matched_idx)

    def _merge_untracked_instances(self, instances: Instances) -> Instances:
        """Append the objects that are lost, but not given up."""
        return self._keep_lost(instances, self._untracked_prev_idx)
