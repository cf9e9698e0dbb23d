"""Names that moved to ``coco`` and ``coco_panoptic``."""

from retinue.data.datasets.coco import register_coco_instances
from retinue.data.datasets.coco_panoptic import register_coco_panoptic_separated

__all__ = ["register_coco_instances", "register_coco_panoptic_separated"]
