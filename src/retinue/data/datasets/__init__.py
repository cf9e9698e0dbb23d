"""Readers of annotation formats, and the datasets that are known by name."""

from retinue.utils.lazy import lazy_exports

_HOMES = {
    "_builtin": "retinue.data.datasets:builtin",
    "builtin": "",
    "builtin_meta": "",
    "cityscapes": "",
    "cityscapes_panoptic": "",
    "coco": "",
    "coco_panoptic": "",
    "convert_to_coco_json": "retinue.data.datasets.coco",
    "get_lvis_instances_meta": "retinue.data.datasets.lvis",
    "load_coco_json": "retinue.data.datasets.coco",
    "load_lvis_json": "retinue.data.datasets.lvis",
    "load_sem_seg": "retinue.data.datasets.coco",
    "load_voc_instances": "retinue.data.datasets.pascal_voc",
    "lvis": "",
    "lvis_v0_5_categories": "",
    "lvis_v1_categories": "",
    "lvis_v1_category_image_count": "",
    "pascal_voc": "",
    "register_coco": "",
    "register_coco_instances": "retinue.data.datasets.coco",
    "register_coco_panoptic": "retinue.data.datasets.coco_panoptic",
    "register_coco_panoptic_separated": "retinue.data.datasets.coco_panoptic",
    "register_lvis_instances": "retinue.data.datasets.lvis",
    "register_pascal_voc": "retinue.data.datasets.pascal_voc",
}
__getattr__, __dir__, __all__ = lazy_exports(__name__, _HOMES)
