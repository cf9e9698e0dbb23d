"""PointRend: masks whose edges are computed point by point, at full resolution.

Kirillov et al., "PointRend: Image Segmentation as Rendering" (2020),
https://arxiv.org/abs/1912.08193.

Reading order: point_features (reading feature maps at points, choosing points), point_head (what is
predicted at a point), mask_head (instance masks), semantic_seg (label maps).
"""

from retinue.utils.lazy import lazy_exports

_HERE = "retinue.projects.point_rend"

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "ColorAugSSDTransform": f"{_HERE}.color_augmentation",
        "ImplicitPointRendMaskHead": f"{_HERE}.mask_head",
        "PointRendMaskHead": f"{_HERE}.mask_head",
        "PointRendSemSegHead": f"{_HERE}.semantic_seg",
        "add_pointrend_config": f"{_HERE}.config",
        "color_augmentation": "",
        "config": "",
        "mask_head": "",
        "point_features": "",
        "point_head": "",
        "presets": "",
        "roi_heads": "",
        "semantic_seg": "",
    },
)
