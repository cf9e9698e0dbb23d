"""What a detector takes and gives: boxes, masks, keypoints, and the images they belong to.

Reading order: ``boxes``, ``instances`` (a table of such things for one image), ``image_list``
(a batch), then ``masks``, ``keypoints`` and ``rotated_boxes``.
"""

from retinue.structures.boxes import (
    Boxes,
    BoxMode,
    pairwise_ioa,
    pairwise_iou,
    pairwise_point_box_distance,
)
from retinue.structures.image_list import ImageList
from retinue.structures.instances import Instances
from retinue.structures.keypoints import Keypoints, heatmaps_to_keypoints
from retinue.structures.masks import BitMasks, PolygonMasks, ROIMasks, polygons_to_bitmask
from retinue.structures.rotated_boxes import RotatedBoxes
from retinue.structures.rotated_boxes import pairwise_iou as pairwise_iou_rotated

__all__ = [
    "BitMasks",
    "BoxMode",
    "Boxes",
    "ImageList",
    "Instances",
    "Keypoints",
    "PolygonMasks",
    "ROIMasks",
    "RotatedBoxes",
    "heatmaps_to_keypoints",
    "pairwise_ioa",
    "pairwise_iou",
    "pairwise_iou_rotated",
    "pairwise_point_box_distance",
    "polygons_to_bitmask",
]
