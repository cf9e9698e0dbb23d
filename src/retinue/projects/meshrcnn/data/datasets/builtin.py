"""The splits of Pix3D, as folders and files below the root of all datasets.

The public project registers them when it is imported; here, :func:`register_all_pix3d` does it when
called, as the trainer and the demo do.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from retinue.data.catalog import DatasetCatalog, MetadataCatalog
from retinue.projects.meshrcnn.data.datasets.pix3d import load_pix3d_json
from retinue.utils.env import datasets_root

__all__ = ["SPLITS", "get_pix3d_metadata", "register_all_pix3d", "register_pix3d"]

_CLASSES = {  # name -> colour, RGB
    "bed": [255, 255, 25],
    "bookcase": [230, 25, 75],
    "chair": [250, 190, 190],
    "desk": [60, 180, 75],
    "misc": [230, 190, 255],
    "sofa": [0, 130, 200],
    "table": [245, 130, 48],
    "tool": [70, 240, 240],
    "wardrobe": [210, 245, 60],
}
SPLITS = {  # name -> folder, annotations
    f"pix3d_{split}": ("pix3d", f"pix3d/pix3d_{split}.json")
    for split in ("s1_train", "s1_test", "s2_train", "s2_test")
}


def get_pix3d_metadata() -> list[dict[str, Any]]:
    """Return name, colour and id of each class."""
    return [
        {"name": name, "color": color, "id": number}
        for number, (name, color) in enumerate(_CLASSES.items(), start=1)
    ]


def register_pix3d(
    dataset_name: str,
    json_file: str,
    image_root: str,
    root: str = "datasets",
    *,
    classes: Sequence[dict[str, Any]] | None = None,
) -> None:
    """Register a dataset in the form of Pix3D.

    Args:
        dataset_name: what configs call it.
        json_file: annotations, below ``root``.
        image_root: folder of images, masks, voxels and models, below ``root``.
        root: folder of the datasets.
        classes: name, colour and id of each; those of Pix3D by default.
    """
    json_file, image_root = os.path.join(root, json_file), os.path.join(root, image_root)
    classes = classes or get_pix3d_metadata()
    DatasetCatalog.register(
        dataset_name, lambda: load_pix3d_json(json_file, image_root, dataset_name)
    )
    MetadataCatalog.get(dataset_name).set(
        json_file=json_file,
        image_root=image_root,
        evaluator_type="pix3d",
        thing_classes=[c["name"] for c in classes],
        thing_colors=[c["color"] for c in classes],
        thing_dataset_id_to_contiguous_id={c["id"]: i for i, c in enumerate(classes)},
    )


def register_all_pix3d(root: str | None = None) -> None:
    """Register the splits of Pix3D that are not registered yet.

    Args:
        root: folder of the datasets; where all builtin ones are by default.
    """
    for name, (images, json_file) in SPLITS.items():
        if name not in DatasetCatalog.list():
            register_pix3d(name, json_file, images, root or datasets_root())
