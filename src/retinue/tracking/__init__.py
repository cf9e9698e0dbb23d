"""Trackers: give the objects found in a video the same number from frame to frame."""

from retinue.utils.lazy import lazy_exports

_HERE = "retinue.tracking"

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "BBoxIOUTracker": f"{_HERE}.bbox_iou_tracker",
        "BaseHungarianTracker": f"{_HERE}.hungarian_tracker",
        "BaseTracker": f"{_HERE}.base_tracker",
        "IOUWeightedHungarianBBoxIOUTracker": f"{_HERE}.iou_weighted_hungarian_bbox_iou_tracker",
        "TRACKER_HEADS_REGISTRY": f"{_HERE}.base_tracker",
        "VanillaHungarianBBoxIOUTracker": f"{_HERE}.vanilla_hungarian_bbox_iou_tracker",
        "base_tracker": "",
        "bbox_iou_tracker": "",
        "build_tracker_head": f"{_HERE}.base_tracker",
        "create_prediction_pairs": f"{_HERE}.utils",
        "hungarian_tracker": "",
        "iou_weighted_hungarian_bbox_iou_tracker": "",
        "utils": "",
        "vanilla_hungarian_bbox_iou_tracker": "",
    },
)
