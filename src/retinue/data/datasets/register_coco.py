"""Names that moved to ``coco`` and ``coco_panoptic``."""

from retinue.utils.lazy import lazy_exports

_HOMES = {
    "register_coco_instances": "retinue.data.datasets.coco",
    "register_coco_panoptic_separated": "retinue.data.datasets.coco_panoptic",
}
__getattr__, __dir__, __all__ = lazy_exports(__name__, _HOMES)
