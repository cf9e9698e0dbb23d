"""DeepLabV3 and DeepLabV3+: label maps from dilated convolutions.

Chen et al., "Rethinking Atrous Convolution for Semantic Image Segmentation" (2017),
https://arxiv.org/abs/1706.05587, and "Encoder-Decoder with Atrous Separable Convolution" (2018),
https://arxiv.org/abs/1802.02611.

Reading order: semantic_seg (the two heads), resnet (the backbone that keeps its resolution), loss,
lr_scheduler.
"""

from retinue.utils.lazy import lazy_exports

_HERE = "retinue.projects.deeplab"

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "DeepLabV3Head": f"{_HERE}.semantic_seg",
        "DeepLabV3PlusHead": f"{_HERE}.semantic_seg",
        "add_deeplab_config": f"{_HERE}.config",
        "build_lr_scheduler": f"{_HERE}.build_solver",
        "build_resnet_deeplab_backbone": f"{_HERE}.resnet",
        "build_solver": "",
        "config": "",
        "loss": "",
        "lr_scheduler": "",
        "presets": "",
        "resnet": "",
        "semantic_seg": "",
        "training": "",
    },
)
