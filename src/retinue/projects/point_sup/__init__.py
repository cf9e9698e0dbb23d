"""PointSup: instance masks learnt from boxes and ten labelled points an object.

Cheng et al., "Pointly-Supervised Instance Segmentation" (2022), https://arxiv.org/abs/2104.06404.

Reading order: point_utils (points in a box), mask_head (the loss at points), detection_utils and
dataset_mapper (how annotations get there).
"""

from retinue.utils.lazy import lazy_exports

_HERE = "retinue.projects.point_sup"

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "ImplicitPointRendPointSupHead": f"{_HERE}.mask_head",
        "MaskRCNNConvUpsamplePointSupHead": f"{_HERE}.mask_head",
        "PointSupDatasetMapper": f"{_HERE}.dataset_mapper",
        "add_point_sup_config": f"{_HERE}.config",
        "config": "",
        "dataset_mapper": "",
        "detection_utils": "",
        "get_point_coords_from_point_annotation": f"{_HERE}.point_utils",
        "mask_head": "",
        "point_utils": "",
        "presets": "",
        "register_point_annotations": "",
        "training": "",
    },
)
