"""Trackers that match all objects of two frames at once, at the least total cost."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from retinue.config import CfgNode, configurable
from retinue.structures import Instances
from retinue.tracking.assignment import linear_sum_assignment
from retinue.tracking.base_tracker import TrackMemory
from retinue.tracking.utils import LARGE_COST_VALUE

__all__ = ["BaseHungarianTracker"]


class BaseHungarianTracker(TrackMemory):
    """A subclass says what it costs to take an object for one of the last frame.

    A pair at ``LARGE_COST_VALUE`` or more is no match, even where nothing better is left.
    """

    @configurable
    def __init__(
        self,
        video_height: int,
        video_width: int,
        max_num_instances: int = 200,
        max_lost_frame_count: int = 0,
        min_box_rel_dim: float = 0.02,
        min_instance_period: int = 1,
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

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Translate ``cfg.TRACKER_HEADS`` to arguments."""
        raise NotImplementedError(f"{cls.__name__}: define from_config to build it from a config")

    def build_cost_matrix(self, instances: Instances, prev_instances: Instances) -> np.ndarray:
        """Return the ``(N, M)`` costs of pairing N objects of this frame with M of the last."""
        raise NotImplementedError(f"{type(self).__name__}: define build_cost_matrix")

    def update(self, instances: Instances) -> Instances:
        """Take the predictions of the next frame; return them with IDs."""
        instances = self._initialize_extra_fields(instances)
        if self._prev_instances is not None:
            self._untracked_prev_idx = set(range(len(self._prev_instances)))
            cost = self.build_cost_matrix(instances, self._prev_instances)
            index, prev_index = linear_sum_assignment(cost)
            is_match = cost[index, prev_index] < LARGE_COST_VALUE
            index, prev_index = index[is_match], prev_index[is_match]
            instances = self._process_matched_idx(instances, index, prev_index)
            instances = self._process_unmatched_idx(instances, index)
            instances = self._process_unmatched_prev_idx(instances, prev_index)
        self._prev_instances = copy.deepcopy(instances)
        return instances

    def _process_matched_idx(
        self, instances: Instances, matched_idx: np.ndarray, matched_prev_idx: np.ndarray
    ) -> Instances:
        """Let objects of this frame be objects of the last one, pair by pair."""
        for index, prev_index in zip(matched_idx, matched_prev_idx, strict=True):
            self._continue_track(instances, int(index), int(prev_index))
        return instances

    def _process_unmatched_idx(self, instances: Instances, matched_idx: np.ndarray) -> Instances:
        """Give new IDs to the objects that match none of the last frame's."""
        return self._start_tracks(instances, matched_idx)

    def _process_unmatched_prev_idx(
        self, instances: Instances, matched_prev_idx: np.ndarray
    ) -> Instances:
        """Append the objects of the last frame that are lost, but not given up."""
        everything = range(len(self._prev_instances or ()))
        return self._keep_lost(instances, set(everything) - set(map(int, matched_prev_idx)))
