"""Datasets in LVIS's format whose annotations have DensePose's keys: animals."""

import logging
import os
from collections.abc import Iterable
from typing import Any

from retinue.data import DatasetCatalog, MetadataCatalog
from retinue.data.datasets.coco_file import read_annotation_file
from retinue.data.datasets.lvis import get_lvis_instances_meta
from retinue.projects.densepose.data.datasets.coco import (
    DENSEPOSE_METADATA_URL_PREFIX,
    CocoDatasetInfo,
    convert_annotation,
    get_metadata,
    group_annotations,
)
from retinue.projects.densepose.data.utils import maybe_prepend_base_path

__all__ = ["DATASETS", "load_lvis_json", "register_dataset", "register_datasets"]

logger = logging.getLogger(__name__)

DATASETS = [
    CocoDatasetInfo(f"densepose_lvis_v1_{name}", "coco_", f"lvis/densepose_lvis_v1_{file}.json")
    for name, file in (
        ("ds1_train_v1", "ds1_train_v1"),
        ("ds1_val_v1", "ds1_val_v1"),
        ("ds2_train_v1", "ds2_train_v1"),
        ("ds2_val_v1", "ds2_val_v1"),
        ("ds1_val_animals_100", "val_animals_100_v2"),
    )
]


def load_lvis_json(
    annotations_json_file: str, image_root: str, dataset_name: str
) -> list[dict[str, Any]]:
    """Read a dataset; its categories go to the metadata as ``categories``, id to name.

    Args:
        annotations_json_file: LVIS's format, with DensePose's keys.
        image_root: what the folders of COCO's splits begin with: ``coco_`` for ``coco_train2017``.
        dataset_name: of the metadata.

    Returns:
        A dict an image, sorted by id; ``category_id`` is that of the file.

    Raises:
        InputError: If ids of annotations occur twice.
    """
    content = read_annotation_file(annotations_json_file)
    classes = get_lvis_instances_meta(dataset_name)["thing_classes"]
    MetadataCatalog.get(dataset_name).categories = dict(enumerate(classes, start=1))
    of_image = group_annotations(content, annotations_json_file, unique=True)
    records = []
    for image in sorted(content["images"], key=lambda image: image["id"]):
        folder, file_name = image["coco_url"].split("/")[-2:]
        rows = of_image[image["id"]]
        records.append(
            {
                "file_name": os.path.join(image_root + folder, file_name),
                "height": image["height"],
                "width": image["width"],
                "not_exhaustive_category_ids": image.get("not_exhaustive_category_ids", []),
                "neg_category_ids": image.get("neg_category_ids", []),
                "image_id": image["id"],
                "dataset": dataset_name,
                "annotations": [convert_annotation({"iscrowd": 0} | row) for row in rows],
            }
        )
    logger.info("Loaded %d images from %s", len(records), annotations_json_file)
    return records


def register_dataset(dataset_data: CocoDatasetInfo, datasets_root: str | None = None) -> None:
    """Register a dataset and its metadata.

    Args:
        dataset_data: where it is.
        datasets_root: folder of the datasets.
    """
    file = maybe_prepend_base_path(datasets_root, dataset_data.annotations_fpath)
    images = maybe_prepend_base_path(datasets_root, dataset_data.images_root)
    name = dataset_data.name
    DatasetCatalog.register(name, lambda: load_lvis_json(file, images, name))
    MetadataCatalog.get(name).set(
        json_file=file,
        image_root=images,
        evaluator_type="lvis",
        **get_metadata(DENSEPOSE_METADATA_URL_PREFIX),
    )


def register_datasets(
    datasets_data: Iterable[CocoDatasetInfo], datasets_root: str | None = None
) -> None:
    """Register several datasets; see :func:`register_dataset`."""
    for dataset_data in datasets_data:
        register_dataset(dataset_data, datasets_root)
