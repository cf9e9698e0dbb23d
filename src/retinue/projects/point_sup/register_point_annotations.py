"""Datasets with annotated points."""

import os
from typing import Any

from retinue.data import DatasetCatalog, MetadataCatalog
from retinue.data.datasets import load_coco_json
from retinue.data.datasets.builtin_meta import _get_builtin_metadata

__all__ = ["register_all_coco_train_points", "register_coco_instances_with_points"]

# name -> images, annotations; below the folder of the datasets
COCO_POINTS = {
    "coco_2017_train_points_n10_v1_without_masks": (
        "coco/train2017",
        "coco/annotations/instances_train2017_n10_v1_without_masks.json",
    ),
}


def register_coco_instances_with_points(
    name: str, metadata: dict[str, Any], json_file: str, image_root: str
) -> None:
    """Register a dataset in COCO's format whose annotations have points instead of masks.

    Args:
        name: what configs call it.
        metadata: kept beside it.
        json_file: annotations with ``point_coords`` and ``point_labels``.
        image_root: folder of the images.
    """
    DatasetCatalog.register(
        name,
        lambda: load_coco_json(json_file, image_root, name, ["point_coords", "point_labels"]),
    )
    MetadataCatalog.get(name).set(
        json_file=json_file, image_root=image_root, evaluator_type="coco", **metadata
    )


def register_all_coco_train_points(root: str) -> None:
    """Register the published point annotations of COCO, those that are not registered yet.

    Args:
        root: folder of the datasets.
    """
    for name, (images, annotations) in COCO_POINTS.items():
        if name not in DatasetCatalog.list():
            register_coco_instances_with_points(
                name,
                _get_builtin_metadata("coco"),
                os.path.join(root, annotations),
                os.path.join(root, images),
            )
