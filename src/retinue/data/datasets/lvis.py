"""LVIS: COCO's images, over a thousand categories. https://www.lvisdataset.org"""

from __future__ import annotations

import functools
import logging
import os
import sys
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from retinue.data.catalog import DatasetCatalog, MetadataCatalog
from retinue.data.datasets.builtin_meta import _get_coco_instances_meta
from retinue.data.datasets.coco_file import read_annotation_file
from retinue.structures import BoxMode
from retinue.utils.errors import InputError

__all__ = ["get_lvis_instances_meta", "load_lvis_json", "register_lvis_instances"]

logger = logging.getLogger(__name__)


def register_lvis_instances(
    name: str, metadata: Mapping[str, Any], json_file: str, image_root: str
) -> None:
    """Give an LVIS file a name.

    Args:
        name: of the dataset, containing ``v1``, ``v0.5`` or ``cocofied``.
        metadata: further metadata.
        json_file: the annotation file.
        image_root: folder that COCO's folders ``train2017``, ... are in.
    """
    load = functools.partial(load_lvis_json, json_file, image_root, name)
    DatasetCatalog.register(name, load)
    MetadataCatalog.get(name).set(
        json_file=json_file, image_root=image_root, evaluator_type="lvis", **metadata
    )


def load_lvis_json(
    json_file: str,
    image_root: str,
    dataset_name: str | None = None,
    extra_annotation_keys: Sequence[str] | None = None,
) -> list[dict[str, Any]]:
    """Read an LVIS file. No image is opened.

    Args:
        json_file: the file.
        image_root: folder that COCO's folders ``train2017``, ... are in.
        dataset_name: if given, the metadata of that name is set; class numbers are the category
            ids less 1, or COCO's if the name contains ``cocofied``.
        extra_annotation_keys: further keys of an annotation to keep, as they are.

    Returns:
        A dict an image, sorted by id, with ``neg_category_ids`` and
        ``not_exhaustive_category_ids``.

    Raises:
        InputError: (an ``AssertionError``) If ids occur twice, or polygons have under 3 points.
    """
    content = read_annotation_file(json_file)
    numbers: Mapping[int, int] | None = None
    if dataset_name is not None:
        meta = get_lvis_instances_meta(dataset_name)
        MetadataCatalog.get(dataset_name).set(**meta)
        numbers = meta.get("thing_dataset_id_to_contiguous_id")
    by_image = defaultdict(list)
    for anno in content.get("annotations", []):
        by_image[anno["image_id"]].append(anno)
    counts = Counter(anno["id"] for annos in by_image.values() for anno in annos)
    if len(counts) < sum(counts.values()):
        raise InputError(
            f"{json_file}: annotation ids must be unique; {counts.most_common(1)[0][0]} is not"
        )
    extra = list(extra_annotation_keys or ())
    if extra:
        logger.info("Keeping the annotations' keys %s, too", ", ".join(extra))
    records = []
    for image in sorted(content["images"], key=lambda image: image["id"]):
        folder, file_name = image["coco_url"].split("/")[-2:]
        records.append(
            {
                "file_name": os.path.join(image_root, folder, file_name),
                "height": image["height"],
                "width": image["width"],
                "not_exhaustive_category_ids": image.get("not_exhaustive_category_ids", []),
                "neg_category_ids": image.get("neg_category_ids", []),
                "image_id": image["id"],
                "annotations": [
                    _convert_annotation(anno, numbers, extra, json_file)
                    for anno in by_image[image["id"]]
                ],
            }
        )
    logger.info("Loaded %d images in the LVIS format from %s", len(records), json_file)
    return records


def _convert_annotation(
    anno: dict[str, Any], numbers: Mapping[int, int] | None, extra: Sequence[str], json_file: str
) -> dict[str, Any]:
    polygons = anno["segmentation"]
    if not polygons or any(len(polygon) % 2 or len(polygon) < 6 for polygon in polygons):
        raise InputError(
            f"{json_file}: annotation {anno['id']} of image {anno['image_id']} has a polygon of"
            " fewer than 3 points, or none"
        )
    category = anno["category_id"]
    return {
        "id": anno["id"],
        "bbox": anno["bbox"],
        "bbox_mode": BoxMode.XYWH_ABS,
        "category_id": category - 1 if numbers is None else numbers[category],
        "segmentation": polygons,
        **{key: anno[key] for key in extra},
    }


def get_lvis_instances_meta(dataset_name: str) -> dict[str, Any]:
    """Return the classes of an LVIS dataset; with v1, in how many images each is.

    Raises:
        ValueError: If the name contains none of ``cocofied``, ``v0.5`` and ``v1``.
    """
    if "cocofied" in dataset_name:
        return _get_coco_instances_meta()
    if "v0.5" in dataset_name:
        from retinue.data.datasets.lvis_v0_5_categories import LVIS_CATEGORIES

        return {"thing_classes": [row["synonyms"][0] for row in LVIS_CATEGORIES]}
    if "v1" in dataset_name:
        from retinue.data.datasets.lvis_v1_categories import LVIS_CATEGORIES
        from retinue.data.datasets.lvis_v1_category_image_count import LVIS_CATEGORY_IMAGE_COUNT

        return {
            "thing_classes": [row["synonyms"][0] for row in LVIS_CATEGORIES],
            "class_image_count": LVIS_CATEGORY_IMAGE_COUNT,
        }
    raise InputError(
        f"no metadata for LVIS dataset {dataset_name!r}: its name must say which version it is, by"
        " containing 'v1', 'v0.5' or 'cocofied'"
    )


def main() -> None:
    """Draw annotations: ``lvis.py JSON_FILE IMAGE_ROOT DATASET_NAME COUNT``."""
    from retinue.data.datasets.preview import draw_dataset

    json_file, image_root, name, count = sys.argv[1:5]
    dicts = load_lvis_json(json_file, image_root, name)
    draw_dataset(dicts[: int(count)], MetadataCatalog.get(name), "lvis-data-vis")


if __name__ == "__main__":
    main()
