"""What trackers share: the memory of the last frame, and the fields that they add.

A tracker gets the predictions of one frame after the other as ``Instances`` with ``pred_boxes``,
``scores`` and ``pred_classes`` (masks and keypoints, too, if there are any) and returns them with

    ID                a number that an object keeps from frame to frame
    ID_period         for how many frames it has been seen
    lost_frame_count  how many frames ago it was last seen; 0 for what is seen now

each a list. Objects that are lost for a while come after those of the frame, where they were last.

Reading order: BaseTracker.update is what subclasses define; TrackMemory has the steps that they
are made of.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from retinue.config import CfgNode, configurable
from retinue.structures import Instances
from retinue.utils.errors import InputError
from retinue.utils.registry import Registry

__all__ = ["TRACKER_HEADS_REGISTRY", "BaseTracker", "TrackMemory", "build_tracker_head"]

TRACKER_HEADS_REGISTRY = Registry(
    "TRACKER_HEADS",
    {
        "BBoxIOUTracker": "retinue.tracking.bbox_iou_tracker:BBoxIOUTracker",
        "IOUWeightedHungarianBBoxIOUTracker": (
            "retinue.tracking.iou_weighted_hungarian_bbox_iou_tracker"
            ":IOUWeightedHungarianBBoxIOUTracker"
        ),
        "VanillaHungarianBBoxIOUTracker": (
            "retinue.tracking.vanilla_hungarian_bbox_iou_tracker:VanillaHungarianBBoxIOUTracker"
        ),
    },
    key="TRACKER_HEADS.TRACKER_NAME",
)


class BaseTracker:
    """Remembers the last frame; a subclass says how its objects are found again."""

    @configurable
    def __init__(self, **kwargs: Any) -> None:
        self._prev_instances: Instances | None = None
        self._matched_idx: set[int] = set()
        self._matched_ID: set[int] = set()
        self._untracked_prev_idx: set[int] = set()
        self._id_count = 0  # the next new ID

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Translate ``cfg.TRACKER_HEADS`` to arguments."""
        raise NotImplementedError(f"{cls.__name__}: define from_config to build it from a config")

    def update(self, predictions: Instances) -> Instances:
        """Take the predictions of the next frame; return them with IDs.

        Args:
            predictions: of one frame; the fields ``ID``, ``ID_period`` and ``lost_frame_count``
                are added.
        """
        raise NotImplementedError(f"{type(self).__name__}: define update")


class TrackMemory(BaseTracker):
    """The steps that the trackers by boxes have in common.

    Args:
        video_height, video_width: size of a frame, in pixels.
        max_num_instances: kept for configs that set it.
        max_lost_frame_count: an object not seen for more frames than this is forgotten.
        min_box_rel_dim: lost objects narrower or lower than this part of the frame are forgotten.
        min_instance_period: lost objects seen for no more frames than this are forgotten.
    """

    def __init__(
        self,
        *,
        video_height: int,
        video_width: int,
        max_num_instances: int = 200,
        max_lost_frame_count: int = 0,
        min_box_rel_dim: float = 0.02,
        min_instance_period: int = 1,
    ) -> None:
        BaseTracker.__init__(self)
        self._video_height = video_height
        self._video_width = video_width
        self._max_num_instances = max_num_instances
        self._max_lost_frame_count = max_lost_frame_count
        self._min_box_rel_dim = min_box_rel_dim
        self._min_instance_period = min_instance_period

    def _initialize_extra_fields(self, instances: Instances) -> Instances:
        """Add the fields; in the first frame every object is new."""
        count = len(instances)
        for name in ("ID", "ID_period", "lost_frame_count"):
            if not instances.has(name):
                instances.set(name, [None] * count)
        if self._prev_instances is None:
            instances.ID = list(range(self._id_count, self._id_count + count))
            instances.ID_period = [1] * count
            instances.lost_frame_count = [0] * count
            self._id_count += count
        return instances

    def _continue_track(self, instances: Instances, index: int, prev_index: int) -> None:
        """Let an object of this frame be an object of the last one."""
        assert self._prev_instances is not None
        instances.ID[index] = self._prev_instances.ID[prev_index]
        instances.ID_period[index] = self._prev_instances.ID_period[prev_index] + 1
        instances.lost_frame_count[index] = 0

    def _start_tracks(self, instances: Instances, matched: Iterable[int]) -> Instances:
        """Give new IDs to the objects that are not among ``matched``."""
        for index in sorted(set(range(len(instances))) - set(map(int, matched))):
            instances.ID[index] = self._id_count
            instances.ID_period[index] = 1
            instances.lost_frame_count[index] = 0
            self._id_count += 1
        return instances

    def _keep_lost(self, instances: Instances, unmatched: Iterable[int]) -> Instances:
        """Append those objects of the last frame that are lost, but not given up."""
        previous = self._prev_instances
        assert previous is not None
        boxes = previous.pred_boxes.tensor
        width, height = (boxes[:, 2:] - boxes[:, :2]).unbind(dim=1)
        is_large = (width / self._video_width >= self._min_box_rel_dim) & (
            height / self._video_height >= self._min_box_rel_dim
        )
        kept = [
            index
            for index in sorted(map(int, unmatched))
            if is_large[index]
            and previous.lost_frame_count[index] < self._max_lost_frame_count
            and previous.ID_period[index] > self._min_instance_period
        ]
        lost = previous[kept]
        lost.lost_frame_count = [count + 1 for count in lost.lost_frame_count]
        return Instances.cat([instances, lost])


def memory_arguments(cfg: CfgNode) -> dict[str, Any]:
    """Translate ``cfg.TRACKER_HEADS`` to the arguments of trackers by boxes.

    Raises:
        InputError: If the size of the video is missing.
    """
    node = cfg.TRACKER_HEADS
    for key in ("VIDEO_HEIGHT", "VIDEO_WIDTH"):
        if key not in node:
            raise InputError(f"TRACKER_HEADS.{key}: expected the video's size in pixels; set it")
    return {
        "video_height": node.VIDEO_HEIGHT,
        "video_width": node.VIDEO_WIDTH,
        "max_num_instances": node.get("MAX_NUM_INSTANCES", 200),
        "max_lost_frame_count": node.get("MAX_LOST_FRAME_COUNT", 0),
        "min_box_rel_dim": node.get("MIN_BOX_REL_DIM", 0.02),
        "min_instance_period": node.get("MIN_INSTANCE_PERIOD", 1),
        "track_iou_threshold": node.get("TRACK_IOU_THRESHOLD", 0.5),
    }


def build_tracker_head(cfg: CfgNode) -> BaseTracker:
    """Build the tracker that ``cfg.TRACKER_HEADS.TRACKER_NAME`` names."""
    tracker: BaseTracker = TRACKER_HEADS_REGISTRY.get(cfg.TRACKER_HEADS.TRACKER_NAME)(cfg)
    return tracker
