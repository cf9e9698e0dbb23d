"""Datasets in COCO's format whose annotations have DensePose's keys.

Categories keep the ids of the file here: those of several datasets are chosen, merged and numbered
when a loader is built (``data.build``), after which the metadata says how.

Reading order: DATASETS, register_dataset, load_coco_json, then the functions that apply the merged
categories to annotations.
"""

import logging
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from retinue.data import DatasetCatalog, MetadataCatalog
from retinue.data.datasets.coco_file import read_annotation_file
from retinue.projects.densepose.data.utils import maybe_prepend_base_path
from retinue.structures import BoxMode
from retinue.utils.errors import InputError

__all__ = [
    "BASE_DATASETS",
    "DATASETS",
    "DENSEPOSE_ALL_POSSIBLE_KEYS",
    "DENSEPOSE_CSE_KEYS_WITHOUT_MASK",
    "DENSEPOSE_IUV_KEYS_WITHOUT_MASK",
    "DENSEPOSE_MASK_KEY",
    "DENSEPOSE_METADATA_URL_PREFIX",
    "CocoDatasetInfo",
    "convert_annotation",
    "create_video_frame_mapping",
    "get_contiguous_id_to_category_id_map",
    "get_metadata",
    "group_annotations",
    "load_coco_json",
    "maybe_filter_and_map_categories_cocoapi",
    "maybe_filter_categories_cocoapi",
    "register_dataset",
    "register_datasets",
]

logger = logging.getLogger(__name__)

DENSEPOSE_MASK_KEY = "dp_masks"
DENSEPOSE_IUV_KEYS_WITHOUT_MASK = ["dp_x", "dp_y", "dp_I", "dp_U", "dp_V"]
DENSEPOSE_CSE_KEYS_WITHOUT_MASK = ["dp_x", "dp_y", "dp_vertex", "ref_model"]
DENSEPOSE_ALL_POSSIBLE_KEYS = {
    *DENSEPOSE_IUV_KEYS_WITHOUT_MASK,
    *DENSEPOSE_CSE_KEYS_WITHOUT_MASK,
    DENSEPOSE_MASK_KEY,
}
DENSEPOSE_METADATA_URL_PREFIX = "https://dl.fbaipublicfiles.com/densepose/data/"


@dataclass
class CocoDatasetInfo:
    """Where a dataset is, relative to the folder of the datasets."""

    name: str
    images_root: str
    annotations_fpath: str


_ROWS = {  # name -> images, annotations
    "densepose_coco_2014_train": (
        "coco/train2014",
        "coco/annotations/densepose_train2014.json",
    ),
    "densepose_coco_2014_minival": (
        "coco/val2014",
        "coco/annotations/densepose_minival2014.json",
    ),
    "densepose_coco_2014_minival_100": (
        "coco/val2014",
        "coco/annotations/densepose_minival2014_100.json",
    ),
    "densepose_coco_2014_valminusminival": (
        "coco/val2014",
        "coco/annotations/densepose_valminusminival2014.json",
    ),
    "densepose_coco_2014_train_cse": ("coco/train2014", "coco_cse/densepose_train2014_cse.json"),
    "densepose_coco_2014_minival_cse": ("coco/val2014", "coco_cse/densepose_minival2014_cse.json"),
    "densepose_coco_2014_minival_100_cse": (
        "coco/val2014",
        "coco_cse/densepose_minival2014_100_cse.json",
    ),
    "densepose_coco_2014_valminusminival_cse": (
        "coco/val2014",
        "coco_cse/densepose_valminusminival2014_cse.json",
    ),
    "densepose_chimps": (
        "densepose_chimps/images",
        "densepose_chimps/densepose_chimps_densepose.json",
    ),
    "densepose_chimps_cse_train": (
        "densepose_chimps/images",
        "densepose_chimps/densepose_chimps_cse_train.json",
    ),
    "densepose_chimps_cse_val": (
        "densepose_chimps/images",
        "densepose_chimps/densepose_chimps_cse_val.json",
    ),
    "posetrack2017_train": (
        "posetrack2017/posetrack_data_2017",
        "posetrack2017/densepose_posetrack_train2017.json",
    ),
    "posetrack2017_val": (
        "posetrack2017/posetrack_data_2017",
        "posetrack2017/densepose_posetrack_val2017.json",
    ),
    "lvis_v05_train": ("coco/train2017", "lvis/lvis_v0.5_plus_dp_train.json"),
    "lvis_v05_val": ("coco/val2017", "lvis/lvis_v0.5_plus_dp_val.json"),
}
DATASETS = [CocoDatasetInfo(name, *paths) for name, paths in _ROWS.items()]
BASE_DATASETS = [  # COCO itself, with its categories numbered here
    CocoDatasetInfo(
        f"base_coco_2017_{split}",
        f"coco/{split.removesuffix('_100')}2017",
        f"coco/annotations/instances_{end}.json",
    )
    for split, end in (("train", "train2017"), ("val", "val2017"), ("val_100", "val2017_100"))
]


def get_metadata(base_path: str | None) -> dict[str, Any]:
    """Return where the symmetries of charts and the body's surface are.

    Args:
        base_path: folder or address that they are below.
    """
    files = {
        "densepose_transform_src": "UV_symmetry_transforms.mat",
        "densepose_smpl_subdiv": "SMPL_subdiv.mat",
        "densepose_smpl_subdiv_transform": "SMPL_SUBDIV_TRANSFORM.mat",
    }
    return {key: maybe_prepend_base_path(base_path, name) for key, name in files.items()}


def register_dataset(dataset_data: CocoDatasetInfo, datasets_root: str | None = None) -> None:
    """Register a dataset and its metadata.

    Args:
        dataset_data: where it is.
        datasets_root: folder of the datasets.
    """
    file = maybe_prepend_base_path(datasets_root, dataset_data.annotations_fpath)
    images = maybe_prepend_base_path(datasets_root, dataset_data.images_root)
    name = dataset_data.name
    DatasetCatalog.register(name, lambda: load_coco_json(file, images, name))
    MetadataCatalog.get(name).set(
        json_file=file, image_root=images, **get_metadata(DENSEPOSE_METADATA_URL_PREFIX)
    )


def register_datasets(
    datasets_data: Iterable[CocoDatasetInfo], datasets_root: str | None = None
) -> None:
    """Register several datasets; see :func:`register_dataset`."""
    for dataset_data in datasets_data:
        register_dataset(dataset_data, datasets_root)


def load_coco_json(
    annotations_json_file: str, image_root: str, dataset_name: str
) -> list[dict[str, Any]]:
    """Read a dataset; its categories go to the metadata as ``categories``, id to name.

    Args:
        annotations_json_file: COCO's format, with DensePose's keys.
        image_root: folder of the images.
        dataset_name: of the metadata.

    Returns:
        A dict an image, sorted by id; ``category_id`` is that of the file.

    Raises:
        InputError: If an annotation is marked ``ignore``, or ids occur twice (in files of COCO's
            minival, where some do, they may).
    """
    content = read_annotation_file(annotations_json_file)
    MetadataCatalog.get(dataset_name).categories = {
        category["id"]: category["name"] for category in content["categories"]
    }
    unique = "minival" not in annotations_json_file
    of_image = group_annotations(content, annotations_json_file, unique=unique)
    records = []
    for image in sorted(content["images"], key=lambda image: image["id"]):
        record = {
            "file_name": os.path.join(image_root, image["file_name"]),
            "height": image["height"],
            "width": image["width"],
            "image_id": image["id"],
            "dataset": dataset_name,
            "annotations": [convert_annotation(row) for row in of_image[image["id"]]],
        }
        if "frame_id" in image:
            record |= {"frame_id": image["frame_id"], "video_id": image.get("vid_id")}
        records.append(record)
    if any("frame_id" in record for record in records):
        create_video_frame_mapping(dataset_name, records)
    logger.info("Loaded %d images from %s", len(records), annotations_json_file)
    return records


def group_annotations(
    content: dict[str, Any], file: str, *, unique: bool
) -> dict[Any, list[dict[str, Any]]]:
    """Return the annotations of each image.

    Raises:
        InputError: If one is marked ``ignore``, or ids that should be unique occur twice.
    """
    rows = content.get("annotations", [])
    if unique and len({row["id"] for row in rows}) < len(rows):
        raise InputError(f"{file}: the ids of annotations must be unique; some occur twice")
    of_image = defaultdict(list)
    for row in rows:
        if row.get("ignore", 0):
            raise InputError(
                f"{file}: annotation {row['id']} of image {row['image_id']} is marked ignore,"
                " which is not known here; remove it or mark it iscrowd"
            )
        of_image[row["image_id"]].append(row)
    return of_image


def convert_annotation(row: dict[str, Any]) -> dict[str, Any]:
    """Turn an annotation of a file into one of a dataset dict."""
    keys = ("iscrowd", "category_id", *sorted(DENSEPOSE_ALL_POSSIBLE_KEYS))
    found = {key: row[key] for key in keys if key in row}
    if "bbox" in row:
        found |= {"bbox": row["bbox"], "bbox_mode": BoxMode.XYWH_ABS}
    segmentation = row.get("segmentation", [])
    if not isinstance(segmentation, dict):  # a polygon has at least 3 points
        segmentation = [p for p in segmentation if len(p) % 2 == 0 and len(p) >= 6]
    if segmentation:
        found["segmentation"] = segmentation
    if "keypoints" in row:  # pixels there, their centres here
        found["keypoints"] = [
            value if i % 3 == 2 else value + 0.5 for i, value in enumerate(row["keypoints"])
        ]
    return found


def create_video_frame_mapping(dataset_name: str, dataset_dicts: Sequence[dict[str, Any]]) -> None:
    """Put ``video_frame_mapping`` into the metadata: video to frame to file."""
    mapping: dict[Any, dict[Any, str]] = defaultdict(dict)
    for record in dataset_dicts:
        if record.get("video_id") is not None:
            mapping[record["video_id"]][record["frame_id"]] = record["file_name"]
    MetadataCatalog.get(dataset_name).set(video_frame_mapping=mapping)


def get_contiguous_id_to_category_id_map(metadata: Any) -> dict[int, int]:
    """Return, for each class of the model, the first of the categories that were merged into it."""
    back: dict[int, int] = {}
    for category, number in metadata.thing_dataset_id_to_contiguous_id.items():
        back.setdefault(number, category)
    return back


def maybe_filter_categories_cocoapi(dataset_name: str, coco_api: Any) -> None:
    """Keep categories that the model knows, one for those merged into a class, in place.

    Args:
        dataset_name: of the metadata.
        coco_api: with ``dataset`` and ``createIndex``.
    """
    metadata = MetadataCatalog.get(dataset_name)
    numbers = metadata.thing_dataset_id_to_contiguous_id
    back = get_contiguous_id_to_category_id_map(metadata)
    kept = {category: back[number] for category, number in numbers.items()}
    _rename(coco_api, kept)
    categories = coco_api.dataset["categories"]
    coco_api.dataset["categories"] = [c for c in categories if c["id"] in back.values()]
    coco_api.createIndex()


def maybe_filter_and_map_categories_cocoapi(dataset_name: str, coco_api: Any) -> None:
    """Keep categories that the model knows, and call them by its classes, in place.

    Args:
        dataset_name: of the metadata.
        coco_api: with ``dataset`` and ``createIndex``.
    """
    numbers = MetadataCatalog.get(dataset_name).thing_dataset_id_to_contiguous_id
    _rename(coco_api, numbers)
    coco_api.dataset["categories"] = [
        category | {"id": numbers[category["id"]]}
        for category in coco_api.dataset["categories"]
        if category["id"] in numbers
    ]
    coco_api.createIndex()


def _rename(coco_api: Any, numbers: dict[int, int]) -> None:
    coco_api.dataset["annotations"] = [
        row | {"category_id": numbers[row["category_id"]]}
        for row in coco_api.dataset["annotations"]
        if row["category_id"] in numbers
    ]
