"""Reading annotations in the form of Pix3D.

Sun et al., "Pix3D" (2018), https://arxiv.org/abs/1804.04610. The file is like COCO's. An annotation
has, beside ``bbox`` and ``category_id``, paths below the images' folder: ``segmentation`` (a
picture), ``voxel`` (see ``utils.shape.read_voxel``), ``model`` (``.obj``); and the camera: ``K``
(focal length, principal point x, y in pixels), ``rot_mat`` and ``trans_mat``.
"""

from __future__ import annotations

import os
from typing import Any

from retinue.data.catalog import MetadataCatalog
from retinue.data.datasets.coco_file import read_annotation_file
from retinue.structures import BoxMode
from retinue.utils.errors import InputError

__all__ = ["MISMATCHED", "load_pix3d_json"]

MISMATCHED = frozenset({"img/table/1749.jpg", "img/table/0045.png"})
"""Pictures of Pix3D whose masks have another size; they are left out."""

CAMERA = ("K", "rot_mat", "trans_mat")


def load_pix3d_json(
    json_file: str, image_root: str, dataset_name: str | None = None
) -> list[dict[str, Any]]:
    """Read the samples of a dataset, one dict an image.

    Args:
        json_file: the annotations.
        image_root: folder that paths in it are below.
        dataset_name: whose metadata get ``thing_classes`` and
            ``thing_dataset_id_to_contiguous_id``, if given.

    Returns:
        Dicts as detectors take them; annotations have ``mesh`` (a key of what
        :func:`~retinue.projects.meshrcnn.data.load_unique_meshes` returns), ``voxel``, ``K``,
        ``R`` and ``t``, too.

    Raises:
        InputError: If an annotation lacks the camera, or names an image that is not there.
    """
    content = read_annotation_file(json_file)
    categories = sorted(content["categories"], key=lambda c: c["id"])
    label_of = {c["id"]: label for label, c in enumerate(categories)}
    if dataset_name is not None:
        MetadataCatalog.get(dataset_name).set(
            thing_classes=[c["name"] for c in categories],
            thing_dataset_id_to_contiguous_id=label_of,
        )
    samples = {
        image["id"]: {
            "file_name": os.path.join(image_root, image["file_name"]),
            "height": image["height"],
            "width": image["width"],
            "image_id": image["id"],
            "annotations": [],
        }
        for image in sorted(content["images"], key=lambda image: image["id"])
    }
    for number, annotation in enumerate(content["annotations"]):
        missing = [key for key in CAMERA if key not in annotation]
        if missing or annotation.get("image_id") not in samples:
            problem = f"no {', '.join(missing)}" if missing else "an unknown image"
            raise InputError(
                f"{json_file}: annotation {number} must name an image and a camera"
                f" ({', '.join(CAMERA)}); got {problem}: {annotation.get('image_id')!r}"
            )
        sample = samples[annotation["image_id"]]
        sample["annotations"].append(_object(annotation, image_root, label_of))
    left_out = {os.path.join(image_root, name) for name in MISMATCHED}
    return [s for s in samples.values() if s["file_name"] not in left_out]


def _object(
    annotation: dict[str, Any], image_root: str, label_of: dict[int, int]
) -> dict[str, Any]:
    one = {
        "bbox": annotation["bbox"],
        "bbox_mode": BoxMode.XYWH_ABS,
        "category_id": label_of[annotation["category_id"]],
        "iscrowd": annotation.get("iscrowd", 0),
        "K": annotation["K"],
        "R": annotation["rot_mat"],
        "t": annotation["trans_mat"],
    }
    for key in ("segmentation", "voxel"):
        if annotation.get(key):
            one[key] = os.path.join(image_root, annotation[key])
    if annotation.get("model"):
        one["mesh"] = annotation["model"]
    return one
