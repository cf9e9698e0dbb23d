"""Cityscapes: street scenes with instances and semantic labels. https://www.cityscapes-dataset.com

Folders hold one folder a city. For an image ``a_leftImg8bit.png`` there are, among the ground
truth, ``a_gtFine_polygons.json``, ``a_gtFine_instanceIds.png`` and ``a_gtFine_labelIds.png``.
"""

from __future__ import annotations

import functools
import json
import logging
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from retinue.data.catalog import Metadata
from retinue.data.datasets.builtin_meta import CITYSCAPES_CATEGORIES
from retinue.data.datasets.coco_panoptic import expect_files
from retinue.data.detection_utils import read_image
from retinue.data.transforms.clip import mask_to_polygons
from retinue.structures import BoxMode
from retinue.utils.comm import get_world_size
from retinue.utils.errors import InputError
from retinue.utils.file_io import PathManager

__all__ = ["load_cityscapes_instances", "load_cityscapes_semantic"]

logger = logging.getLogger(__name__)

_IMAGE_END = "leftImg8bit.png"
_NOT_DRAWN = "license plate"  # the one label with a negative id
_FEW_FILES = 100
_THINGS = [row for row in CITYSCAPES_CATEGORIES if row["isthing"]]
_NUMBER_OF_NAME = {row["name"]: number for number, row in enumerate(_THINGS)}
_NUMBER_OF_ID = {row["id"]: number for number, row in enumerate(_THINGS)}


def load_cityscapes_instances(
    image_dir: str, gt_dir: str, from_json: bool = True, to_polygons: bool = True
) -> list[dict[str, Any]]:
    """Read the instances: of each object the part that is seen, as the official scripts draw it.

    Args:
        image_dir: folder of the images, such as ``leftImg8bit/train``.
        gt_dir: folder of the ground truth, such as ``gtFine/train``.
        from_json: read the polygons of the JSON files; if False, the PNG files of instance ids.
        to_polygons: give masks as polygons along their pixels; if False, as RLE.

    Raises:
        InputError: (an ``AssertionError``) If files are missing or called otherwise.
    """
    files = _get_cityscapes_files(image_dir, gt_dir)
    read = functools.partial(
        _cityscapes_files_to_dict, from_json=from_json, to_polygons=to_polygons
    )
    if len(files) < _FEW_FILES:
        records = list(map(read, files))
    else:
        processes = max((os.cpu_count() or 1) // get_world_size() // 2, 1)
        with ProcessPoolExecutor(processes) as pool:
            records = list(pool.map(read, files, chunksize=16))
    logger.info("Loaded %d images from %s", len(records), image_dir)
    return records


def load_cityscapes_semantic(image_dir: str, gt_dir: str) -> list[dict[str, Any]]:
    """List the images with their label maps; for the arguments see ``load_cityscapes_instances``.

    Raises:
        InputError: (an ``AssertionError``) If files are missing; the maps ``labelTrainIds.png``
            are made from the dataset by a script of cityscapesScripts.
    """
    gt_dir = PathManager.get_local_path(gt_dir)
    records = []
    for image_file, _, label_file, json_file in _get_cityscapes_files(image_dir, gt_dir):
        with PathManager.open(json_file) as file:
            content = json.load(file)
        records.append(
            {
                "file_name": image_file,
                "sem_seg_file_name": label_file.replace("labelIds", "labelTrainIds"),
                "height": content["imgHeight"],
                "width": content["imgWidth"],
            }
        )
    hint = "make it by createTrainIdLabelImgs.py of cityscapesScripts"
    expect_files(image_dir, records, ("sem_seg_file_name",), hint)
    return records


def image_files(image_dir: str) -> list[tuple[str, str]]:
    """Return (city, path) of all images.

    Raises:
        InputError: If a file is called otherwise than Cityscapes calls images.
    """
    cities = PathManager.ls(image_dir)
    logger.info("%d cities found in %s", len(cities), image_dir)
    files = [
        (city, os.path.join(image_dir, city, name))
        for city in cities
        for name in PathManager.ls(os.path.join(image_dir, city))
    ]
    for _, path in files:
        if not path.endswith(_IMAGE_END):
            raise InputError(f"{path}: Cityscapes' images end with {_IMAGE_END}")
    return files


def _get_cityscapes_files(image_dir: str, gt_dir: str) -> list[tuple[str, str, str, str]]:
    """Return paths of image, instance ids, label ids and polygons for each image."""
    files: list[tuple[str, str, str, str]] = []
    for city, image_file in image_files(image_dir):
        stem = os.path.basename(image_file).removesuffix(_IMAGE_END)
        start = os.path.join(gt_dir, city, f"{stem}gtFine_")
        truth = (f"{start}instanceIds.png", f"{start}labelIds.png", f"{start}polygons.json")
        files.append((image_file, *truth))
    kinds = ("image", "instance ids", "label ids", "polygons")
    expect_files(image_dir, [dict(zip(kinds, row, strict=True)) for row in files[:1]], kinds)
    return files


def _cityscapes_files_to_dict(
    files: Sequence[str], from_json: bool, to_polygons: bool
) -> dict[str, Any]:
    image_file, instance_file, _, json_file = files
    read = _objects_from_json if from_json else _objects_from_ids
    drawn, objects = read(json_file if from_json else instance_file)
    annotations = []
    for value, number, is_crowd in objects:
        mask = drawn == value
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if len(rows) == 0:  # hidden behind others
            continue
        x0, y0, x1, y1 = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
        annotations.append(
            {
                "iscrowd": is_crowd,
                "category_id": number,
                "bbox": (float(x0), float(y0), float(x1), float(y1)),
                "bbox_mode": BoxMode.XYXY_ABS,
                "segmentation": _segmentation(mask, (x0, y0, x1, y1), to_polygons),
            }
        )
    return {
        "file_name": image_file,
        "image_id": os.path.basename(image_file),
        "height": drawn.shape[0],
        "width": drawn.shape[1],
        "annotations": annotations,
    }


def _objects_from_json(json_file: str) -> tuple[np.ndarray, list[tuple[int, int, bool]]]:
    """Draw all objects, later ones over earlier ones.

    Returns:
        A map of the objects' numbers, and (number in the map, class, is crowd) of each thing.
    """
    with PathManager.open(json_file) as file:
        content = json.load(file)
    canvas = Image.new("I", (content["imgWidth"], content["imgHeight"]))
    pen = ImageDraw.Draw(canvas)
    objects = []
    for value, item in enumerate(content["objects"], start=1):
        name = item["label"]
        if "deleted" in item or name == _NOT_DRAWN:
            continue
        pen.polygon([tuple(point) for point in item["polygon"]], fill=value)
        single = name.removesuffix("group")
        if single in _NUMBER_OF_NAME:
            objects.append((value, _NUMBER_OF_NAME[single], single != name))
    return np.asarray(canvas), objects


def _objects_from_ids(instance_file: str) -> tuple[np.ndarray, list[tuple[int, int, bool]]]:
    """Read instance ids: 1000 times the label's id plus a counter, or of crowds the id alone."""
    ids = read_image(instance_file)
    objects = []
    for value in np.unique(ids).tolist():
        label = value // 1000 if value >= 1000 else value
        if label in _NUMBER_OF_ID:
            objects.append((value, _NUMBER_OF_ID[label], value < 1000))
    return ids, objects


def _segmentation(mask: np.ndarray, box: tuple[int, int, int, int], to_polygons: bool) -> Any:
    if not to_polygons:
        from hotcoco import mask as runs

        return runs.encode(np.asfortranarray(mask, dtype=np.uint8))
    x0, y0, x1, y1 = box
    polygons = [polygon.reshape(-1, 2) for polygon in mask_to_polygons(mask[y0:y1, x0:x1])]
    return [np.add(polygon, (x0, y0)).reshape(-1).tolist() for polygon in polygons]


def main() -> None:
    """Draw annotations: ``cityscapes.py IMAGE_DIR GT_DIR [--type instance|semantic]``."""
    import argparse

    from retinue.data.datasets.preview import draw_dataset

    parser = argparse.ArgumentParser(description="Draw Cityscapes annotations into a folder.")
    for folder in ("image_dir", "gt_dir"):
        parser.add_argument(folder)
    parser.add_argument("--type", default="instance", choices=("instance", "semantic"))
    args = parser.parse_args()
    meta = Metadata().set(
        thing_classes=list(_NUMBER_OF_NAME),
        stuff_classes=[row["name"] for row in CITYSCAPES_CATEGORIES],
        stuff_colors=[row["color"] for row in CITYSCAPES_CATEGORIES],
    )
    is_instance = args.type == "instance"
    load = load_cityscapes_instances if is_instance else load_cityscapes_semantic
    draw_dataset(load(args.image_dir, args.gt_dir), meta, "cityscapes-data-vis")


if __name__ == "__main__":
    main()
