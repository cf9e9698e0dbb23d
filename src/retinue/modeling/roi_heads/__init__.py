"""Heads that look at one region at a time: boxes, masks and keypoints.

Reading order: roi_heads (which head sees what), base (which proposals to train on), box_head and
fast_rcnn (the box branch), mask_head, keypoint_head; then the variants, cascade_rcnn and
rotated_fast_rcnn.
"""

from retinue.utils.lazy import lazy_exports

_HERE = "retinue.modeling.roi_heads"

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "BaseKeypointRCNNHead": f"{_HERE}.keypoint_head",
        "BaseMaskRCNNHead": f"{_HERE}.mask_head",
        "CascadeROIHeads": f"{_HERE}.cascade_rcnn",
        "FastRCNNConvFCHead": f"{_HERE}.box_head",
        "FastRCNNOutputLayers": f"{_HERE}.fast_rcnn",
        "KRCNNConvDeconvUpsampleHead": f"{_HERE}.keypoint_head",
        "MaskRCNNConvUpsampleHead": f"{_HERE}.mask_head",
        "ROIHeads": f"{_HERE}.base",
        "ROI_BOX_HEAD_REGISTRY": "retinue.modeling.catalog",
        "ROI_HEADS_REGISTRY": "retinue.modeling.catalog",
        "ROI_KEYPOINT_HEAD_REGISTRY": "retinue.modeling.catalog",
        "ROI_MASK_HEAD_REGISTRY": "retinue.modeling.catalog",
        "RROIHeads": f"{_HERE}.rotated_fast_rcnn",
        "Res5ROIHeads": f"{_HERE}.roi_heads",
        "StandardROIHeads": f"{_HERE}.roi_heads",
        "base": "",
        "box_head": "",
        "build_box_head": f"{_HERE}.box_head",
        "build_keypoint_head": f"{_HERE}.keypoint_head",
        "build_mask_head": f"{_HERE}.mask_head",
        "build_roi_heads": f"{_HERE}.roi_heads",
        "cascade_rcnn": "",
        "fast_rcnn": "",
        "keypoint_head": "",
        "mask_head": "",
        "roi_heads": "",
        "rotated_fast_rcnn": "",
        "select_foreground_proposals": f"{_HERE}.base",
    },
)
