"""Whole models: from a list of image dicts to losses or detections."""

from retinue.utils.lazy import lazy_exports

_HERE = __name__

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "build": "",
        "dense_detector": "",
        "fcos": "",
        "panoptic_fpn": "",
        "rcnn": "",
        "retinanet": "",
        "semantic_seg": "",
        "META_ARCH_REGISTRY": "retinue.modeling.catalog",
        "SEM_SEG_HEADS_REGISTRY": "retinue.modeling.catalog",
        "DenseDetector": f"{_HERE}.dense_detector",
        "FCOS": f"{_HERE}.fcos",
        "GeneralizedRCNN": f"{_HERE}.rcnn",
        "PanopticFPN": f"{_HERE}.panoptic_fpn",
        "ProposalNetwork": f"{_HERE}.rcnn",
        "RetinaNet": f"{_HERE}.retinanet",
        "SemanticSegmentor": f"{_HERE}.semantic_seg",
        "build_model": f"{_HERE}.build",
        "build_sem_seg_head": f"{_HERE}.semantic_seg",
    },
)
