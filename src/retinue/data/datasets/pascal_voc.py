"""Pascal VOC: one XML file an image. http://host.robots.ox.ac.uk/pascal/VOC/"""

from __future__ import annotations

import functools
import os
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from typing import Any

from retinue.data.catalog import DatasetCatalog, MetadataCatalog
from retinue.structures import BoxMode
from retinue.utils.errors import unknown_name
from retinue.utils.file_io import PathManager

__all__ = ["load_voc_instances", "register_pascal_voc"]

# fmt: off
CLASS_NAMES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)
# fmt: on


def load_voc_instances(
    dirname: str, split: str, class_names: Sequence[str]
) -> list[dict[str, Any]]:
    """Read the boxes of a split; those marked difficult, too. No image is opened.

    Args:
        dirname: folder with ``Annotations``, ``ImageSets`` and ``JPEGImages``.
        split: ``"train"``, ``"val"``, ``"trainval"`` or ``"test"``.
        class_names: what the classes are called; their order numbers them.

    Raises:
        UnknownNameError: (a ``ValueError``) If an object's class is none of them.
    """
    with PathManager.open(os.path.join(dirname, "ImageSets", "Main", f"{split}.txt")) as file:
        ids = file.read().split()
    folder = PathManager.get_local_path(os.path.join(dirname, "Annotations/"))
    return [_read_image(dirname, folder, image_id, class_names) for image_id in ids]


def _read_image(
    dirname: str, folder: str, image_id: str, class_names: Sequence[str]
) -> dict[str, Any]:
    xml_file = os.path.join(folder, f"{image_id}.xml")
    with PathManager.open(xml_file, "rb") as file:
        tree = ElementTree.parse(file)
    annotations = []
    for item in tree.iterfind("object"):
        name = item.findtext("name", "")
        if name not in class_names:
            raise unknown_name(f"class in {xml_file}", name, class_names)
        xmin, ymin, xmax, ymax = (
            float(item.findtext(f"bndbox/{side}", "")) for side in ("xmin", "ymin", "xmax", "ymax")
        )
        # Their pixels count from 1 and the last one belongs to the box.
        annotations.append(
            {
                "category_id": list(class_names).index(name),
                "bbox": [xmin - 1.0, ymin - 1.0, xmax, ymax],
                "bbox_mode": BoxMode.XYXY_ABS,
            }
        )
    return {
        "file_name": os.path.join(dirname, "JPEGImages", f"{image_id}.jpg"),
        "image_id": image_id,
        "height": int(tree.findtext("size/height", "")),
        "width": int(tree.findtext("size/width", "")),
        "annotations": annotations,
    }


def register_pascal_voc(
    name: str, dirname: str, split: str, year: int, class_names: Sequence[str] = CLASS_NAMES
) -> None:
    """Give a split in ``dirname`` a name; for the arguments see ``load_voc_instances``."""
    load = functools.partial(load_voc_instances, dirname, split, class_names)
    DatasetCatalog.register(name, load)
    MetadataCatalog.get(name).set(
        thing_classes=list(class_names), dirname=dirname, year=year, split=split
    )
