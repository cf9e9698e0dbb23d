"""``retinue run visualize_json_results``: results of an evaluation drawn beside the annotations."""

from __future__ import annotations

import argparse
import json
import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from retinue.compat.tools.pictures import save_picture
from retinue.data import DatasetCatalog, MetadataCatalog
from retinue.data.detection_utils import read_image
from retinue.structures import Boxes, BoxMode, Instances
from retinue.utils.errors import InputError
from retinue.utils.file_io import PathManager
from retinue.utils.logger import setup_logger
from retinue.visualization import Visualizer

__all__ = ["create_instances", "main"]


def create_instances(
    predictions: Sequence[dict[str, Any]],
    image_size: tuple[int, int],
    threshold: float,
    to_class: Callable[[int], int],
) -> Instances:
    """Make ``Instances`` of one image's results in COCO's format.

    Args:
        predictions: with ``score``, ``bbox`` (x, y, width, height), ``category_id`` and perhaps
            ``segmentation``.
        image_size: height and width.
        threshold: results with a higher score are kept.
        to_class: category id -> class.
    """
    chosen = [p for p in predictions if p["score"] > threshold]
    boxes = np.asarray([p["bbox"] for p in chosen], dtype=np.float64).reshape(-1, 4)
    result = Instances(image_size)
    result.scores = np.asarray([p["score"] for p in chosen])
    result.pred_boxes = Boxes(BoxMode.convert(boxes, BoxMode.XYWH_ABS, BoxMode.XYXY_ABS))
    result.pred_classes = np.asarray([to_class(p["category_id"]) for p in chosen], dtype=np.int64)
    if chosen and all("segmentation" in p for p in chosen):
        result.pred_masks = [p["segmentation"] for p in chosen]
    return result


def _class_of(dataset: str, metadata: Any) -> Callable[[int], int]:
    numbers = metadata.get("thing_dataset_id_to_contiguous_id")
    if numbers is not None:
        return lambda category: numbers[category]
    if "lvis" in dataset:  # whose category ids count from 1
        return lambda category: category - 1
    raise InputError(
        f"--dataset: the metadata of {dataset!r} has no thing_dataset_id_to_contiguous_id, so that"
        " the results' category ids mean nothing"
    )


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Draw results beside the annotations.")
    add = parser.add_argument
    add("--input", required=True, help="coco_instances_results.json of an evaluation")
    add("--output", required=True, help="folder for the pictures")
    add("--dataset", default="coco_2017_val", help="name of the dataset")
    add("--conf-threshold", type=float, default=0.5, help="lowest score")
    args = parser.parse_args()
    setup_logger()
    with PathManager.open(args.input) as file:
        rows = json.load(file)
    by_image = defaultdict(list)
    for row in rows:
        by_image[row["image_id"]].append(row)

    dicts = DatasetCatalog.get(args.dataset)
    metadata = MetadataCatalog.get(args.dataset)
    to_class = _class_of(args.dataset, metadata)
    for record in dicts:
        image = read_image(record["file_name"], "RGB")
        found = create_instances(
            by_image[record["image_id"]], image.shape[:2], args.conf_threshold, to_class
        )
        halves = (
            Visualizer(image, metadata).draw_instance_predictions(found).get_image(),
            Visualizer(image, metadata).draw_dataset_dict(record).get_image(),
        )
        name = os.path.basename(record["file_name"])
        save_picture(os.path.join(args.output, name), np.concatenate(halves, axis=1))
    print(f"{len(dicts)} pictures -> {args.output}")
