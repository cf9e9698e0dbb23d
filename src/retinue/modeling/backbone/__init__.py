"""Backbones: from a batch of images to feature maps by name."""

from retinue.utils.lazy import lazy_exports

_HERE = __name__

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "backbone": "",
        "build": "",
        "fpn": "",
        "mvit": "",
        "outside": "",
        "regnet": "",
        "resnet": "",
        "swin": "",
        "utils": "",
        "vit": "",
        "BACKBONE_REGISTRY": "retinue.modeling.catalog",
        "Backbone": f"{_HERE}.backbone",
        "build_backbone": f"{_HERE}.build",
        "FPN": f"{_HERE}.fpn",
        "MViT": f"{_HERE}.mvit",
        "OutsideBackbone": f"{_HERE}.outside",
        "RegNet": f"{_HERE}.regnet",
        "BasicStem": f"{_HERE}.resnet",
        "BottleneckBlock": f"{_HERE}.resnet",
        "ResNet": f"{_HERE}.resnet",
        "ResNetBlockBase": f"{_HERE}.resnet",
        "build_resnet_backbone": f"{_HERE}.resnet",
        "make_stage": f"{_HERE}.resnet",
        "SwinTransformer": f"{_HERE}.swin",
        "SimpleFeaturePyramid": f"{_HERE}.vit",
        "ViT": f"{_HERE}.vit",
        "get_vit_lr_decay_rate": f"{_HERE}.vit",
    },
)
