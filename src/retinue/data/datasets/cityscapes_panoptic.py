"""Cityscapes' panoptic annotations, as cityscapesScripts' ``createPanopticImgs.py`` writes them."""

from __future__ import annotations

import functools
import json
import logging
import os
from collections.abc import Mapping
from typing import Any

from retinue.data.catalog import DatasetCatalog, MetadataCatalog
from retinue.data.datasets.builtin_meta import CITYSCAPES_CATEGORIES
from retinue.data.datasets.cityscapes import image_files
from retinue.data.datasets.coco_panoptic import expect_files, number_segment
from retinue.utils.errors import InputError
from retinue.utils.file_io import PathManager

logger = logging.getLogger(__name__)

# dataset -> images, panoptic maps, their json
_RAW_CITYSCAPES_PANOPTIC_SPLITS = {
    f"cityscapes_fine_panoptic_{split}": (
        f"cityscapes/leftImg8bit/{split}",
        f"cityscapes/gtFine/cityscapes_panoptic_{split}",
        f"cityscapes/gtFine/cityscapes_panoptic_{split}.json",
    )
    for split in ("train", "val")
}


def get_cityscapes_panoptic_files(
    image_dir: str, gt_dir: str, json_info: Mapping[str, Any]
) -> list[tuple[str, str, list[dict[str, Any]]]]:
    """Return (image, panoptic map, segments) for each annotation in a panoptic JSON file's content.

    Raises:
        InputError: (an ``AssertionError``) If an annotation's image is not in the folder, or files
            of the first are missing.
    """
    images = {
        os.path.basename(path).removesuffix("_leftImg8bit.png"): path
        for _, path in image_files(image_dir)
    }
    files = []
    for anno in json_info["annotations"]:
        if anno["image_id"] not in images:
            raise InputError(
                f"{image_dir}: no image {anno['image_id']!r} for annotation {anno['file_name']!r}"
            )
        label_file = os.path.join(gt_dir, anno["file_name"])
        files.append((images[anno["image_id"]], label_file, anno["segments_info"]))
    first = [{"image": image, "panoptic map": label} for image, label, _ in files[:1]]
    expect_files(image_dir, first, ("image", "panoptic map"))
    return files


def load_cityscapes_panoptic(
    image_dir: str, gt_dir: str, gt_json: str, meta: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Read the panoptic annotations.

    Args:
        image_dir: folder of the images, such as ``leftImg8bit/train``.
        gt_dir: folder of the maps, such as ``gtFine/cityscapes_panoptic_train``.
        gt_json: the JSON file beside it.
        meta: ``thing_dataset_id_to_contiguous_id`` and ``stuff_dataset_id_to_contiguous_id``.

    Raises:
        InputError: (an ``AssertionError``) If files are missing, or have to be made first.
    """
    if not os.path.exists(PathManager.get_local_path(gt_json)):
        raise InputError(
            f"{gt_json} does not exist; make it by createPanopticImgs.py of cityscapesScripts"
        )
    with PathManager.open(gt_json) as file:
        content = json.load(file)
    records = []
    for image_file, label_file, segments in get_cityscapes_panoptic_files(
        image_dir, gt_dir, content
    ):
        stem = image_file.replace("leftImg8bit", "gtFine").split(".")[0]
        name = os.path.splitext(os.path.basename(image_file))[0]
        infos = [number_segment(info, meta, gt_json) for info in segments]
        for info in infos:
            del info["isthing"]  # Cityscapes' records never had it
        records.append(
            {
                "file_name": image_file,
                "image_id": "_".join(name.split("_")[:3]),
                "sem_seg_file_name": f"{stem}_labelTrainIds.png",
                "pan_seg_file_name": label_file,
                "segments_info": infos,
            }
        )
    hint = "make the maps by createTrainIdLabelImgs.py and createPanopticImgs.py"
    expect_files(gt_json, records, ("sem_seg_file_name", "pan_seg_file_name"), hint)
    return records


def register_all_cityscapes_panoptic(root: str) -> None:
    """Register the panoptic annotations of train and val below ``root``.

    Things and stuff share one range of labels, so both lists of names hold all of them.
    """
    names = [row["name"] for row in CITYSCAPES_CATEGORIES]
    colors = [row["color"] for row in CITYSCAPES_CATEGORIES]
    labels: dict[int, dict[int, int]] = {0: {}, 1: {}}
    for row in CITYSCAPES_CATEGORIES:
        labels[row["isthing"]][row["id"]] = row["trainId"]
    meta = {
        "thing_classes": names,
        "thing_colors": colors,
        "stuff_classes": names,
        "stuff_colors": colors,
        "thing_dataset_id_to_contiguous_id": labels[1],
        "stuff_dataset_id_to_contiguous_id": labels[0],
    }
    for name, paths in _RAW_CITYSCAPES_PANOPTIC_SPLITS.items():
        images, maps, annotations = (os.path.join(root, path) for path in paths)
        load = functools.partial(load_cityscapes_panoptic, images, maps, annotations, meta)
        DatasetCatalog.register(name, load)
        MetadataCatalog.get(name).set(
            panoptic_root=maps,
            image_root=images,
            panoptic_json=annotations,
            gt_dir=maps.replace("cityscapes_panoptic_", ""),
            evaluator_type="cityscapes_panoptic_seg",
            ignore_label=255,
            label_divisor=1000,
            **meta,
        )
