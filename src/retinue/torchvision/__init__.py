"""torchvision's way of building and calling detectors, on this library's parts.

A model is made from a backbone, an anchor generator, a pooler and a number of classes. It takes a
list of RGB images, floats in [0, 1], and returns a list of dicts; in training it also takes a list
of target dicts and returns a dict of losses. Label 0 is background.

    backbone = MyBackbone()  # any module with `out_channels` that returns a tensor or a dict
    anchors = AnchorGenerator(sizes=((32, 64, 128),), aspect_ratios=((0.5, 1.0, 2.0),))
    model = FasterRCNN(backbone, num_classes=2, rpn_anchor_generator=anchors)

Reading order: rcnn (the models), transform (resizing, and back), backbone (what is asked of a
backbone), roi_heads and predictors, retinanet and fcos, builders (complete models by name).
"""

import re
from typing import Any

from retinue.utils.lazy import lazy_exports

_HERE = "retinue.torchvision"

_NOT_HERE = re.compile(r"_v2$|mobilenet|^SSD|^ssd|_V2_Weights$")

_lookup, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "AnchorGenerator": f"{_HERE}.anchors",
        "FCOS_ResNet50_FPN_Weights": f"{_HERE}.weights",
        "FCOS": f"{_HERE}.fcos",
        "FCOSHead": "retinue.modeling.meta_arch.fcos",
        "FastRCNNPredictor": f"{_HERE}.predictors",
        "FasterRCNN_ResNet50_FPN_Weights": f"{_HERE}.weights",
        "FasterRCNN": f"{_HERE}.rcnn",
        "GeneralizedRCNNTransform": f"{_HERE}.transform",
        "KeypointRCNN_ResNet50_FPN_Weights": f"{_HERE}.weights",
        "KeypointRCNN": f"{_HERE}.rcnn",
        "KeypointRCNNHeads": f"{_HERE}.predictors",
        "KeypointRCNNPredictor": f"{_HERE}.predictors",
        "MaskRCNN_ResNet50_FPN_Weights": f"{_HERE}.weights",
        "MaskRCNN": f"{_HERE}.rcnn",
        "MaskRCNNHeads": f"{_HERE}.predictors",
        "MaskRCNNPredictor": f"{_HERE}.predictors",
        "MultiScaleRoIAlign": f"{_HERE}.pooler",
        "RPNHead": f"{_HERE}.rpn",
        "RegionProposalNetwork": f"{_HERE}.rpn",
        "RetinaNet_ResNet50_FPN_Weights": f"{_HERE}.weights",
        "RetinaNet": f"{_HERE}.retinanet",
        "RetinaNetHead": "retinue.modeling.meta_arch.retinanet",
        "RoIHeads": f"{_HERE}.roi_heads",
        "TwoMLPHead": f"{_HERE}.predictors",
        "fasterrcnn_resnet50_fpn": f"{_HERE}.builders",
        "fcos_resnet50_fpn": f"{_HERE}.builders",
        "keypointrcnn_resnet50_fpn": f"{_HERE}.builders",
        "maskrcnn_resnet50_fpn": f"{_HERE}.builders",
        "resnet_fpn_backbone": f"{_HERE}.builders",
        "retinanet_resnet50_fpn": f"{_HERE}.builders",
    },
)


def __getattr__(name: str) -> Any:
    if _NOT_HERE.search(name):
        raise ImportError(
            f"retinue.torchvision: {name} is not here; build FasterRCNN, MaskRCNN, RetinaNet or"
            " FCOS on a backbone of your own, such as torchvision.models.mobilenet_v2().features"
            " with out_channels set, or use fasterrcnn_resnet50_fpn, maskrcnn_resnet50_fpn,"
            " keypointrcnn_resnet50_fpn, retinanet_resnet50_fpn or fcos_resnet50_fpn"
        )
    return _lookup(name)
