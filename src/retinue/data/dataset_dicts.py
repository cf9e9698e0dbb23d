"""From the names of datasets to one list of dataset dicts: loaded, joined, filtered, counted."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch.utils.data import ConcatDataset, Dataset

from retinue.data.catalog import DatasetCatalog, MetadataCatalog
from retinue.data.detection_utils import check_metadata_consistency
from retinue.structures import BoxMode
from retinue.utils import restricted_pickle
from retinue.utils.errors import InputError, unknown_name
from retinue.utils.file_io import PathManager
from retinue.utils.logger import log_first_n
from retinue.utils.tables import format_table

__all__ = [
    "filter_images_with_few_keypoints",
    "filter_images_with_only_crowd_annotations",
    "get_detection_dataset_dicts",
    "load_dataset_dicts",
    "load_proposals_into_dataset",
    "print_instances_class_histogram",
]

logger = logging.getLogger("retinue.data.build")

_Records = list[dict[str, Any]]


def filter_images_with_only_crowd_annotations(dataset_dicts: _Records) -> _Records:
    """Drop images that have no annotation, or none that isn't a crowd."""
    kept = [
        record
        for record in dataset_dicts
        if any(not anno.get("iscrowd", 0) for anno in record["annotations"])
    ]
    num_removed = len(dataset_dicts) - len(kept)
    how = "; DATALOADER.FILTER_EMPTY_ANNOTATIONS False keeps them" if num_removed else ""
    logger.info(
        "Removed %d images with no usable annotations. %d images left%s.",
        num_removed,
        len(kept),
        how,
    )
    return kept


def filter_images_with_few_keypoints(
    dataset_dicts: _Records, min_keypoints_per_image: int
) -> _Records:
    """Drop images with fewer labelled keypoints, all instances together."""
    kept = [
        record
        for record in dataset_dicts
        if sum(
            visibility > 0
            for anno in record["annotations"]
            for visibility in np.asarray(anno.get("keypoints", ())).reshape(-1)[2::3]
        )
        >= min_keypoints_per_image
    ]
    logger.info(
        "Removed %d images with fewer than %d keypoints. %d images left"
        " (MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE).",
        len(dataset_dicts) - len(kept),
        min_keypoints_per_image,
        len(kept),
    )
    return kept


def load_dataset_dicts(path: str, *, trust: bool = False) -> list[dict[str, Any]]:
    """Read dataset dicts that were cached in a pickle, without running code from it.

    Args:
        path: a file or an address; a list of dicts of plain data, arrays, structures, ``BoxMode``.
        trust: run whatever code the file holds; the log says so. For files of your own only.

    Raises:
        InputError: If it holds something else than a list of dicts.
        RestrictedPickleError: If it names anything that could run code.

    Example:
        ``DatasetCatalog.register("birds", lambda: load_dataset_dicts("birds.pkl"))``
    """
    with PathManager.open(path, "rb") as file:
        content = restricted_pickle.load(file, name=path, trust=trust)
    if not isinstance(content, list) or not all(isinstance(record, dict) for record in content):
        raise InputError(
            f"{path}: expected a list of dataset dicts; got {type(content).__name__}; was it"
            " written by pickle.dump(dataset_dicts, file)?"
        )
    return content


def load_proposals_into_dataset(
    dataset_dicts: _Records, proposal_file: str, *, trust: bool = False
) -> _Records:
    """Add precomputed proposals to dataset dicts, in place; best first.

    Args:
        dataset_dicts: with ``image_id``.
        proposal_file: a pickle of plain data: ``ids``, and for each ``boxes`` ``(N, 4)`` and
            ``objectness_logits`` ``(N,)``; ``bbox_mode``, ``XYXY_ABS`` if missing. Detectron's
            names ``indexes`` and ``scores`` are understood.
        trust: run whatever code the file holds; the log says so. For files of your own only.

    Raises:
        UnknownNameError: (a ``KeyError``) If an image has no proposals in the file.
        RestrictedPickleError: If the file holds more than plain data.
    """
    logger.info("Loading proposals from: %s", proposal_file)
    with PathManager.open(proposal_file, "rb") as file:
        proposals = restricted_pickle.load(file, name=proposal_file, trust=trust)
    for old, new in (("indexes", "ids"), ("scores", "objectness_logits")):
        if old in proposals:
            proposals[new] = proposals.pop(old)
    rows = {str(image_id): row for row, image_id in enumerate(proposals["ids"])}
    mode = BoxMode(proposals.get("bbox_mode", BoxMode.XYXY_ABS))
    for record in dataset_dicts:
        image_id = str(record["image_id"])
        if image_id not in rows:
            raise unknown_name(f"image id (not in {proposal_file})", image_id, rows, max_listed=5)
        logits = proposals["objectness_logits"][rows[image_id]]
        order = logits.argsort()[::-1]
        record["proposal_boxes"] = proposals["boxes"][rows[image_id]][order]
        record["proposal_objectness_logits"] = logits[order]
        record["proposal_bbox_mode"] = mode
    return dataset_dicts


def print_instances_class_histogram(dataset_dicts: _Records, class_names: Sequence[str]) -> None:
    """Log how many instances each class has, crowds not counted.

    Raises:
        InputError: (an ``AssertionError``) If an annotation's class is outside the names.
    """
    counts = np.zeros(len(class_names), dtype=np.int64)
    for record in dataset_dicts:
        for number, anno in enumerate(record["annotations"]):
            if anno.get("iscrowd", 0):
                continue
            label = anno["category_id"]
            if not 0 <= label < len(class_names):
                raise InputError(
                    f"image {record.get('file_name')}, annotation number {number}"
                    f" (id {anno.get('id')}): category_id is {label}, but the dataset has"
                    f" {len(class_names)} classes, 0 to {len(class_names) - 1}; correct the"
                    " annotation, or the metadata's thing_classes"
                )
            counts[label] += 1
    short = [name if len(name) <= 13 else f"{name[:11]}.." for name in class_names]
    cells = list(zip(short, counts.tolist(), strict=True))
    if len(class_names) > 1:
        cells.append(("total", int(counts.sum())))
    across = min(3, len(class_names)) or 1
    rows = [
        list(itertools.chain.from_iterable(cells[start : start + across]))
        for start in range(0, len(cells), across)
    ]
    table = format_table(rows, ["category", "#instances"] * across, align="center")
    message = f"Distribution of instances among all {len(class_names)} categories:\n{table}"
    log_first_n(logging.INFO, message, name=logger.name, key="message")


def get_detection_dataset_dicts(
    names: str | Sequence[str],
    filter_empty: bool = True,
    min_keypoints: int = 0,
    proposal_files: Sequence[str] | None = None,
    check_consistency: bool = True,
    *,
    trust: bool = False,
) -> Any:
    """Load registered datasets and join them.

    Args:
        names: of the datasets.
        filter_empty: drop images without annotations, where the datasets have any.
        min_keypoints: drop images with fewer labelled keypoints; 0 drops none.
        proposal_files: precomputed proposals, a file a dataset.
        check_consistency: make sure that the datasets have the same classes, and log how many
            instances each has.
        trust: run whatever code the proposal files hold; the log says so. For files of your own
            only.

    Returns:
        A list of dicts, one an image; or a ``torch.utils.data.Dataset``, if a dataset is one.

    Raises:
        UnknownNameError: (a ``KeyError``) If a name is not registered.
        InputError: (an ``AssertionError``) If a dataset is empty, or nothing is left of it.
    """
    names = [names] if isinstance(names, str) else list(names)
    if not names:
        raise InputError("no dataset is named; set DATASETS.TRAIN or DATASETS.TEST")
    datasets = [DatasetCatalog.get(name) for name in names]
    if isinstance(datasets[0], Dataset):
        return ConcatDataset(datasets) if len(datasets) > 1 else datasets[0]
    for name, dicts in zip(names, datasets, strict=True):
        if not len(dicts):
            raise InputError(f"dataset {name!r} is empty: its loader returned no images")
    if proposal_files is not None:
        if len(proposal_files) != len(names):
            raise InputError(
                f"{len(names)} datasets need as many proposal files; got {len(proposal_files)}"
            )
        datasets = [
            load_proposals_into_dataset(dicts, file, trust=trust)
            for dicts, file in zip(datasets, proposal_files, strict=True)
        ]

    records = list(itertools.chain.from_iterable(datasets))
    has_instances = "annotations" in records[0]
    if filter_empty and has_instances:
        records = filter_images_with_only_crowd_annotations(records)
    if min_keypoints > 0 and has_instances:
        records = filter_images_with_few_keypoints(records, min_keypoints)
    if check_consistency and has_instances:
        classes = [MetadataCatalog.get(name).get("thing_classes") for name in names]
        if all(classes):
            check_metadata_consistency("thing_classes", names)
            print_instances_class_histogram(records, classes[0])
    if not records:
        raise InputError(
            f"no images are left of {', '.join(names)}: all {sum(map(len, datasets))} were dropped;"
            " see the log for why, and DATALOADER.FILTER_EMPTY_ANNOTATIONS"
        )
    return records
