"""TridentNet: one set of weights at several dilations, for objects of several sizes.

Li et al., "Scale-Aware Trident Networks" (2019), https://arxiv.org/abs/1901.01892.

Reading order: trident_conv, trident_backbone (branches), trident_rpn and trident_rcnn (what
branches mean for proposals and detections).
"""

from retinue.utils.lazy import lazy_exports

_HERE = "retinue.projects.tridentnet"

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "TridentBottleneckBlock": f"{_HERE}.trident_backbone",
        "TridentRPN": f"{_HERE}.trident_rpn",
        "TridentRes5ROIHeads": f"{_HERE}.trident_rcnn",
        "TridentStandardROIHeads": f"{_HERE}.trident_rcnn",
        "add_tridentnet_config": f"{_HERE}.config",
        "build_trident_resnet_backbone": f"{_HERE}.trident_backbone",
        "config": "",
        "make_trident_stage": f"{_HERE}.trident_backbone",
        "presets": "",
        "training": "",
        "trident_backbone": "",
        "trident_conv": "",
        "trident_rcnn": "",
        "trident_rpn": "",
    },
)
