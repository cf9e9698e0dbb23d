"""Complete models on a ResNet-50 with a feature pyramid, by torchvision's names.

Weights are downloaded when they are named: ``weights="DEFAULT"`` are torchvision's own for the
whole model, ``weights_backbone="DEFAULT"`` those of its ResNet; both also take a checkpoint's file
or address, such as ``"detectron2://ImageNetPretrained/torchvision/R-50.pkl"``. torchvision's
functions start from the ResNet's by default; these start from random numbers, and say so.
"""

import logging
from collections import OrderedDict
from typing import Any

import torch
from torch import nn

from retinue.modeling.backbone.fpn import FPN, LastLevelMaxPool, LastLevelP6P7
from retinue.modeling.backbone.resnet import BasicStem, ResNet
from retinue.torchvision.fcos import FCOS
from retinue.torchvision.rcnn import FasterRCNN, KeypointRCNN, MaskRCNN
from retinue.torchvision.retinanet import RetinaNet
from retinue.torchvision.weights import (
    FasterRCNN_ResNet50_FPN_Weights,
    FCOS_ResNet50_FPN_Weights,
    KeypointRCNN_ResNet50_FPN_Weights,
    MaskRCNN_ResNet50_FPN_Weights,
    ResNetWeights,
    RetinaNet_ResNet50_FPN_Weights,
    address_of_weights,
)
from retinue.utils.errors import InputError, unknown_name

__all__ = [
    "PyramidBackbone",
    "fasterrcnn_resnet50_fpn",
    "fcos_resnet50_fpn",
    "keypointrcnn_resnet50_fpn",
    "maskrcnn_resnet50_fpn",
    "resnet_fpn_backbone",
    "retinanet_resnet50_fpn",
]

logger = logging.getLogger(__name__)


class PyramidBackbone(nn.Module):
    """A ResNet with a feature pyramid, whose maps have torchvision's names: "0", "1", ..., "pool".

    Args:
        fpn: the pyramid.
        names: of its maps, finest first.
    """

    def __init__(self, fpn: FPN, names: list[str]) -> None:
        super().__init__()
        self.fpn = fpn
        self.names = names
        self.out_channels = next(iter(fpn.output_shape().values())).channels

    def forward(self, x: torch.Tensor) -> OrderedDict[str, torch.Tensor]:
        """Map images ``(N, 3, H, W)`` to feature maps by name, finest first."""
        maps = self.fpn(x)
        return OrderedDict(zip(self.names, maps.values(), strict=True))


def resnet_fpn_backbone(
    backbone_name: str = "resnet50",
    weights: Any = None,
    trainable_layers: int = 3,
    *,
    out_channels: int = 256,
    extra_levels: str = "pool",
    freeze_norm: bool | None = None,
) -> PyramidBackbone:
    """Build a ResNet with a feature pyramid.

    Args:
        backbone_name: ``resnet18``, ``resnet34``, ``resnet50``, ``resnet101`` or ``resnet152``.
        weights: of the ResNet: ``"DEFAULT"``, ``"IMAGENET1K_V1"``, a checkpoint's file or address.
        trainable_layers: how many stages, from the last, are trained; 5 is all.
        out_channels: channels of the pyramid.
        extra_levels: ``"pool"`` for one more level, ``"p6p7"`` for RetinaNet's levels.
        freeze_norm: whether batch norms keep what they were trained to; by default with weights.

    Raises:
        UnknownNameError: If there is no such backbone.
        InputError: If ``trainable_layers`` is not in [0, 5].
    """
    depths = {f"resnet{depth}": depth for depth in (18, 34, 50, 101, 152)}
    if backbone_name not in depths:
        raise unknown_name("backbone", backbone_name, depths)
    if not 0 <= trainable_layers <= 5:
        raise InputError(f"trainable_layers must be from 0 to 5; got {trainable_layers}")
    is_frozen = bool(weights) if freeze_norm is None else freeze_norm
    norm = "FrozenBN" if is_frozen else "BN"
    is_retinanet = extra_levels == "p6p7"
    in_features = ["res3", "res4", "res5"] if is_retinanet else ["res2", "res3", "res4", "res5"]
    strides: dict[str, Any] = {"stride_in_1x1": False} if depths[backbone_name] >= 50 else {}
    resnet = ResNet(
        BasicStem(norm=norm),
        ResNet.make_default_stages(depths[backbone_name], norm=norm, **strides),
        out_features=in_features,
    )
    if weights:
        prefix = f"RESNET{depths[backbone_name]}_"
        _load(resnet, address_of_weights(weights, ResNetWeights, prefix))
    resnet.freeze(5 - trainable_layers)
    top = (
        LastLevelP6P7(out_channels, out_channels, in_feature="p5")
        if is_retinanet
        else LastLevelMaxPool()
    )
    fpn = FPN(resnet, in_features, out_channels, top_block=top)
    extra = ["p6", "p7"] if is_retinanet else ["pool"]
    return PyramidBackbone(fpn, [str(i) for i in range(len(in_features))] + extra)


def _load(model: nn.Module, path: str) -> None:
    from retinue.checkpoint import DetectionCheckpointer

    DetectionCheckpointer(model).load(path)


_KNOWN_WEIGHTS: dict[str, Any] = {
    "FCOS": FCOS_ResNet50_FPN_Weights,
    "FasterRCNN": FasterRCNN_ResNet50_FPN_Weights,
    "KeypointRCNN": KeypointRCNN_ResNet50_FPN_Weights,
    "MaskRCNN": MaskRCNN_ResNet50_FPN_Weights,
    "RetinaNet": RetinaNet_ResNet50_FPN_Weights,
}


def _build(
    model_class: Any,
    num_classes: int,
    weights: Any,
    weights_backbone: Any,
    trainable_backbone_layers: int | None,
    kwargs: dict[str, Any],
    extra_levels: str = "pool",
) -> Any:
    if kwargs.pop("pretrained", False):  # the two arguments of older tutorials
        weights = weights or "DEFAULT"
    if kwargs.pop("pretrained_backbone", False) and not weights:
        weights_backbone = weights_backbone or "DEFAULT"
    is_trained = bool(weights or weights_backbone)
    if not is_trained:
        logger.warning(
            "%s starts from random weights; torchvision's function of this name starts from an"
            " ImageNet ResNet: pass weights_backbone='DEFAULT' for that",
            model_class.__name__,
        )
    if trainable_backbone_layers is None:
        trainable_backbone_layers = 3 if is_trained else 5
    path = address_of_weights(weights, _KNOWN_WEIGHTS[model_class.__name__]) if weights else ""
    backbone = resnet_fpn_backbone(
        weights=None if weights else weights_backbone,
        trainable_layers=trainable_backbone_layers,
        extra_levels=extra_levels,
        freeze_norm=is_trained,
    )
    model = model_class(backbone, num_classes, **kwargs)
    if path:
        _load(model, path)
    return model


def fasterrcnn_resnet50_fpn(
    *,
    weights: Any = None,
    num_classes: int = 91,
    weights_backbone: Any = None,
    trainable_backbone_layers: int | None = None,
    **kwargs: Any,
) -> FasterRCNN:
    """Build :class:`FasterRCNN` on a ResNet-50 with a feature pyramid.

    Args:
        weights: of such a model: ``"DEFAULT"``, ``"COCO_V1"``, or a checkpoint's file or address.
        num_classes: background counted.
        weights_backbone: of the ResNet alone, see :func:`resnet_fpn_backbone`.
        trainable_backbone_layers: stages that are trained; by default 3 with weights, else 5. With
            weights, batch norms keep their statistics.
        **kwargs: arguments of :class:`FasterRCNN`.
    """
    return _build(
        FasterRCNN, num_classes, weights, weights_backbone, trainable_backbone_layers, kwargs
    )


def maskrcnn_resnet50_fpn(
    *,
    weights: Any = None,
    num_classes: int = 91,
    weights_backbone: Any = None,
    trainable_backbone_layers: int | None = None,
    **kwargs: Any,
) -> MaskRCNN:
    """Build :class:`MaskRCNN` as :func:`fasterrcnn_resnet50_fpn` builds Faster R-CNN."""
    return _build(
        MaskRCNN, num_classes, weights, weights_backbone, trainable_backbone_layers, kwargs
    )


def keypointrcnn_resnet50_fpn(
    *,
    weights: Any = None,
    num_classes: int = 2,
    num_keypoints: int = 17,
    weights_backbone: Any = None,
    trainable_backbone_layers: int | None = None,
    **kwargs: Any,
) -> KeypointRCNN:
    """Build :class:`KeypointRCNN` as :func:`fasterrcnn_resnet50_fpn` builds Faster R-CNN."""
    kwargs["num_keypoints"] = num_keypoints
    return _build(
        KeypointRCNN, num_classes, weights, weights_backbone, trainable_backbone_layers, kwargs
    )


def retinanet_resnet50_fpn(
    *,
    weights: Any = None,
    num_classes: int = 91,
    weights_backbone: Any = None,
    trainable_backbone_layers: int | None = None,
    **kwargs: Any,
) -> RetinaNet:
    """Build :class:`RetinaNet` as :func:`fasterrcnn_resnet50_fpn` builds Faster R-CNN."""
    return _build(
        RetinaNet,
        num_classes,
        weights,
        weights_backbone,
        trainable_backbone_layers,
        kwargs,
        extra_levels="p6p7",
    )


def fcos_resnet50_fpn(
    *,
    weights: Any = None,
    num_classes: int = 91,
    weights_backbone: Any = None,
    trainable_backbone_layers: int | None = None,
    **kwargs: Any,
) -> FCOS:
    """Build :class:`FCOS` as :func:`fasterrcnn_resnet50_fpn` builds Faster R-CNN."""
    return _build(
        FCOS,
        num_classes,
        weights,
        weights_backbone,
        trainable_backbone_layers,
        kwargs,
        extra_levels="p6p7",
    )
