"""COCO's panoptic annotations: label maps as PNG files, and a JSON file that says what is in them.

They come in two ways. "Standard": things and stuff in one range of labels, from the panoptic maps.
"Separated", as in Panoptic FPN (Kirillov et al. 2019, https://arxiv.org/abs/1901.02446): instances
from COCO's instance file, and semantic maps in which all things are label 0.
"""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from retinue.data.catalog import DatasetCatalog, MetadataCatalog
from retinue.data.datasets.coco import load_coco_json, load_sem_seg
from retinue.utils.errors import InputError, UnknownNameError
from retinue.utils.file_io import PathManager

__all__ = ["register_coco_panoptic", "register_coco_panoptic_separated"]


def load_coco_panoptic_json(
    json_file: str, image_dir: str, gt_dir: str, meta: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Read a panoptic JSON file.

    Args:
        json_file: the file.
        image_dir: folder of the images, which have the maps' names and end with ``.jpg``.
        gt_dir: folder of the maps.
        meta: ``thing_dataset_id_to_contiguous_id`` and ``stuff_dataset_id_to_contiguous_id``.

    Returns:
        Dicts with ``file_name``, ``image_id``, ``pan_seg_file_name`` and ``segments_info``.

    Raises:
        InputError: (an ``AssertionError``) If there are no annotations, or the first files are
            not there.
        UnknownNameError: (a ``KeyError``) If a segment's category is unknown.
    """
    with PathManager.open(json_file) as file:
        content = json.load(file)
    records = []
    for anno in content["annotations"]:
        stem = os.path.splitext(anno["file_name"])[0]
        records.append(
            {
                "file_name": os.path.join(image_dir, f"{stem}.jpg"),
                "image_id": int(anno["image_id"]),
                "pan_seg_file_name": os.path.join(gt_dir, anno["file_name"]),
                "segments_info": [
                    number_segment(info, meta, json_file) for info in anno["segments_info"]
                ],
            }
        )
    expect_files(json_file, records, ("file_name", "pan_seg_file_name"))
    return records


def number_segment(info: dict[str, Any], meta: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return a segment with its class number for ``category_id``, and whether it ``isthing``."""
    category = info["category_id"]
    for kind in ("thing", "stuff"):
        numbers = meta[f"{kind}_dataset_id_to_contiguous_id"]
        if category in numbers:
            return {**info, "category_id": numbers[category], "isthing": kind == "thing"}
    raise UnknownNameError(
        f"{where}: segment {info.get('id')} has category_id {category}, which is neither a thing"
        " nor stuff in the metadata"
    )


def expect_files(
    where: str, records: Sequence[Mapping[str, Any]], keys: Sequence[str], hint: str = ""
) -> None:
    """Make sure that there are records, and that the files of the first one exist.

    Raises:
        InputError: If not.
    """
    if not records:
        raise InputError(f"{where}: lists no images")
    for key in keys:
        if not PathManager.isfile(records[0][key]):
            raise InputError(
                f"{where}: its first {key} does not exist: {records[0][key]}"
                + (f"; {hint}" if hint else "; check the folders")
            )


def register_coco_panoptic(
    name: str,
    metadata: Mapping[str, Any],
    image_root: str,
    panoptic_root: str,
    panoptic_json: str,
    instances_json: str | None = None,
) -> None:
    """Register standard panoptic annotations.

    Args:
        name: of the dataset.
        metadata: classes and ids of things and stuff; see ``load_coco_panoptic_json``.
        image_root: folder of the images.
        panoptic_root: folder of the maps.
        panoptic_json: the panoptic file.
        instances_json: COCO's file of the same images' instances, for evaluation.
    """
    load = functools.partial(
        load_coco_panoptic_json, panoptic_json, image_root, panoptic_root, metadata
    )
    DatasetCatalog.register(name, load)
    MetadataCatalog.get(name).set(
        evaluator_type="coco_panoptic_seg",
        image_root=image_root,
        json_file=instances_json,
        panoptic_json=panoptic_json,
        panoptic_root=panoptic_root,
        label_divisor=1000,
        ignore_label=255,
        **metadata,
    )


def register_coco_panoptic_separated(
    name: str,
    metadata: Mapping[str, Any],
    image_root: str,
    panoptic_root: str,
    panoptic_json: str,
    sem_seg_root: str,
    instances_json: str,
) -> None:
    """Register separated panoptic annotations as ``<name>_separated``.

    The semantic maps alone become ``<name>_stuffonly``.

    Args:
        name: first part of both names.
        metadata: classes and ids of things and stuff.
        image_root: folder of the images.
        panoptic_root: folder of the panoptic maps, for evaluation.
        panoptic_json: the panoptic file, for evaluation.
        sem_seg_root: folder of the semantic maps.
        instances_json: COCO's file of instances.
    """
    separated, stuff_only = f"{name}_separated", f"{name}_stuffonly"
    load = functools.partial(_load_separated, separated, image_root, sem_seg_root, instances_json)
    DatasetCatalog.register(separated, load)
    MetadataCatalog.get(separated).set(
        evaluator_type="coco_panoptic_seg",
        image_root=image_root,
        json_file=instances_json,
        panoptic_json=panoptic_json,
        panoptic_root=panoptic_root,
        sem_seg_root=sem_seg_root,
        ignore_label=255,
        **metadata,
    )
    DatasetCatalog.register(stuff_only, functools.partial(load_sem_seg, sem_seg_root, image_root))
    MetadataCatalog.get(stuff_only).set(
        sem_seg_root=sem_seg_root,
        image_root=image_root,
        evaluator_type="sem_seg",
        ignore_label=255,
        **metadata,
    )


def _load_separated(
    name: str, image_root: str, sem_seg_root: str, instances_json: str
) -> list[dict[str, Any]]:
    instances = load_coco_json(instances_json, image_root, name)
    return merge_to_panoptic(instances, load_sem_seg(sem_seg_root, image_root))


def merge_to_panoptic(
    detection_dicts: Sequence[dict[str, Any]], sem_seg_dicts: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Join the dicts of both lists that have the same ``file_name``, in the order of the first.

    Raises:
        InputError: (an ``AssertionError``) If there are no semantic dicts.
        UnknownNameError: (a ``KeyError``) If an image has none.
    """
    by_file = {record["file_name"]: record for record in sem_seg_dicts}
    if not by_file:
        raise InputError("merge_to_panoptic: got no semantic segmentation")
    lacking = [r["file_name"] for r in detection_dicts if r["file_name"] not in by_file]
    if lacking:
        raise UnknownNameError(
            f"{len(lacking)} images have no semantic segmentation, among them {lacking[0]}"
        )
    return [{**record, **by_file[record["file_name"]]} for record in detection_dicts]


def main() -> None:
    """Draw annotations: ``coco_panoptic.py IMAGE_ROOT MAPS_ROOT JSON_FILE DATASET_NAME COUNT``."""
    from retinue.data.datasets.preview import draw_dataset

    image_root, maps_root, json_file, name, count = sys.argv[1:6]
    meta = MetadataCatalog.get(name)
    dicts = load_coco_panoptic_json(json_file, image_root, maps_root, meta.as_dict())
    draw_dataset(dicts[: int(count)], meta, "coco-data-vis")


if __name__ == "__main__":
    main()
