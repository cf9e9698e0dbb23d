"""Average precision by the rules of Pascal VOC.

A detection is right if it overlaps an object of its class in its image by more than a threshold,
and none with a higher score took that object. Objects marked difficult count neither way.
Coordinates are VOC's: pixels are counted from 1, and the last pixel belongs to the box.

Source: Everingham et al. (2010), and the development kit,
http://host.robots.ox.ac.uk/pascal/VOC/voc2012/#devkit.
"""

from __future__ import annotations

import functools
import logging
import os
import tempfile
import xml.etree.ElementTree as ET
from collections import OrderedDict, defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from retinue.data.catalog import MetadataCatalog
from retinue.evaluation.evaluator import DatasetEvaluator
from retinue.utils import comm
from retinue.utils.errors import InputError
from retinue.utils.file_io import PathManager

__all__ = ["PascalVOCDetectionEvaluator", "parse_rec", "voc_ap", "voc_eval"]

THRESHOLDS = range(50, 100, 5)  # percent


class PascalVOCDetectionEvaluator(DatasetEvaluator):
    """AP over thresholds, AP50 and AP75, averaged over classes, in percent.

    Args:
        dataset_name: a registered dataset with ``dirname``, ``split``, ``year`` (2007 or 2012) and
            ``thing_classes``.
    """

    def __init__(self, dataset_name: str) -> None:
        self._dataset_name = dataset_name
        metadata = MetadataCatalog.get(dataset_name)
        if metadata.year not in (2007, 2012):
            raise InputError(f"{dataset_name}: expected year 2007 or 2012; got {metadata.year}")
        folder = PathManager.get_local_path(os.path.join(metadata.dirname, "Annotations/"))
        self._anno_file_template = os.path.join(folder, "{}.xml")
        self._image_set_path = os.path.join(
            metadata.dirname, "ImageSets", "Main", metadata.split + ".txt"
        )
        self._class_names = metadata.thing_classes
        self._is_2007 = metadata.year == 2007
        self._cpu_device = torch.device("cpu")  # subclasses use these two
        self._logger = logging.getLogger(__name__)
        self.reset()

    def reset(self) -> None:
        """Forget what was processed."""
        self._predictions: dict[int, list[str]] = defaultdict(list)

    def process(self, inputs: Sequence[dict[str, Any]], outputs: Sequence[dict[str, Any]]) -> None:
        """Take in one batch: dicts with ``image_id``, and with ``instances``."""
        for image, output in zip(inputs, outputs, strict=True):
            instances = output["instances"].to("cpu")
            boxes = instances.pred_boxes.tensor.tolist()
            scores, classes = instances.scores.tolist(), instances.pred_classes.tolist()
            for (x0, y0, x1, y1), score, label in zip(boxes, scores, classes, strict=True):
                # VOC counts pixels from 1, and its last pixel is inside
                self._predictions[label].append(
                    f"{image['image_id']} {score:.3f} {x0 + 1:.1f} {y0 + 1:.1f} {x1:.1f} {y1:.1f}"
                )

    def evaluate(self) -> OrderedDict[str, Any] | None:
        """Return ``{"bbox": {"AP": ..., "AP50": ..., "AP75": ...}}``; None off the main process."""
        shards = comm.gather(self._predictions, dst=0)
        if not comm.is_main_process():
            return None
        year = 2007 if self._is_2007 else 2012
        self._logger.info(f"Evaluating {self._dataset_name} by the rules of VOC {year}")
        precisions: dict[int, list[float]] = defaultdict(list)
        with tempfile.TemporaryDirectory(prefix="pascal_voc_eval_") as folder:
            template = os.path.join(folder, "{}.txt")
            for label, name in enumerate(self._class_names):
                with open(template.format(name), "w") as file:
                    file.writelines(
                        line + "\n" for shard in shards for line in shard.get(label, ())
                    )
                for percent in THRESHOLDS:
                    _, _, ap = voc_eval(
                        template,
                        self._anno_file_template,
                        self._image_set_path,
                        name,
                        ovthresh=percent / 100,
                        use_07_metric=self._is_2007,
                    )
                    precisions[percent].append(100 * ap)
        means = {percent: float(np.mean(values)) for percent, values in precisions.items()}
        scores = {"AP": float(np.mean(list(means.values()))), "AP50": means[50], "AP75": means[75]}
        return OrderedDict(bbox=scores)


@functools.cache
def parse_rec(filename: str) -> list[dict[str, Any]]:
    """Return the objects of an annotation file: name, pose, truncated, difficult, bbox."""
    with PathManager.open(filename, "r") as file:
        tree = ET.parse(file)
    objects = []
    for element in tree.findall("object"):
        box = element.find("bndbox")
        corners = [box.findtext(side) if box is not None else None for side in _SIDES]
        if None in corners:
            raise InputError(f"{filename}: an object has no bndbox with {', '.join(_SIDES)}")
        objects.append(
            {
                "name": element.findtext("name"),
                "pose": element.findtext("pose"),
                "truncated": int(element.findtext("truncated") or 0),
                "difficult": int(element.findtext("difficult") or 0),
                "bbox": [int(float(corner)) for corner in corners if corner is not None],
            }
        )
    return objects


_SIDES = ("xmin", "ymin", "xmax", "ymax")


def voc_ap(rec: np.ndarray, prec: np.ndarray, use_07_metric: bool = False) -> float:
    """Return average precision from recall and precision, both by falling score.

    Args:
        use_07_metric: the mean of the best precision at recalls 0, 0.1 ... 1; else the area under
            the curve of the best precision at each recall or above.

    >>> voc_ap(np.array([0.5, 0.5, 1.0]), np.array([1.0, 0.5, 2 / 3]))
    0.8333333333333333
    """
    if use_07_metric:
        best = [prec[rec >= t].max(initial=0.0) for t in np.arange(0.0, 1.1, 0.1)]
        return float(sum(b / 11.0 for b in best))
    recall = np.concatenate([[0.0], rec, [1.0]])
    precision = np.concatenate([[0.0], prec, [0.0]])
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float((np.diff(recall) * envelope[1:]).sum())


def voc_eval(
    detpath: str,
    annopath: str,
    imagesetfile: str,
    classname: str,
    ovthresh: float = 0.5,
    use_07_metric: bool = False,
) -> tuple[np.ndarray, np.ndarray, float]:
    """Evaluate one class at one threshold.

    Args:
        detpath: ``detpath.format(classname)`` has lines of image, score, x0, y0, x1, y1.
        annopath: ``annopath.format(image)`` is an annotation file.
        imagesetfile: names of the images, one a line.
        classname: the class.
        ovthresh: IoU above which a detection is right.
        use_07_metric: see ``voc_ap``.

    Returns:
        Recall and precision by falling score, and average precision.
    """
    with PathManager.open(imagesetfile, "r") as file:
        images = [line.strip() for line in file if line.strip()]
    objects = {
        image: [obj for obj in parse_rec(annopath.format(image)) if obj["name"] == classname]
        for image in images
    }
    num_objects = sum(not obj["difficult"] for found in objects.values() for obj in found)

    with open(detpath.format(classname)) as file:
        rows = [line.split() for line in file if line.strip()]
    scores = np.array([float(row[1]) for row in rows])
    order = np.argsort(-scores)
    right, wrong = np.zeros(len(rows)), np.zeros(len(rows))
    taken = {image: [False] * len(found) for image, found in objects.items()}
    for place, row in enumerate(rows[i] for i in order):
        image, box = row[0], np.array(row[2:], dtype=float)
        overlaps = _overlaps(box, objects[image])
        nearest = int(overlaps.argmax()) if len(overlaps) else -1
        if nearest < 0 or overlaps[nearest] <= ovthresh:
            wrong[place] = 1
        elif not objects[image][nearest]["difficult"]:
            (wrong if taken[image][nearest] else right)[place] = 1
            taken[image][nearest] = True
    num_right, num_wrong = right.cumsum(), wrong.cumsum()
    recall = num_right / num_objects if num_objects else np.full(len(rows), np.nan)
    precision = num_right / np.maximum(num_right + num_wrong, np.finfo(np.float64).eps)
    return recall, precision, voc_ap(recall, precision, use_07_metric)


def _overlaps(box: np.ndarray, objects: Sequence[dict[str, Any]]) -> np.ndarray:
    """Return the IoU of a box with each object; the last pixel is inside."""
    others = np.array([obj["bbox"] for obj in objects], dtype=float).reshape(-1, 4)
    sides = np.minimum(others[:, 2:], box[2:]) - np.maximum(others[:, :2], box[:2]) + 1
    shared: np.ndarray = np.maximum(sides, 0).prod(axis=1)
    union = (box[2:] - box[:2] + 1).prod() + (others[:, 2:] - others[:, :2] + 1).prod(axis=1)
    return np.asarray(shared / (union - shared))
