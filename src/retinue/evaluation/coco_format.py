"""COCO's formats: annotations, as read from a file, and predictions of one image, as results."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import hotcoco
import hotcoco.mask
import numpy as np
import torch

from retinue.structures import BoxMode
from retinue.utils.errors import InputError
from retinue.utils.file_io import PathManager

__all__ = ["EditableCOCO", "has_annotations", "instances_to_coco_json", "read_annotations"]


class EditableCOCO(hotcoco.COCO):
    """hotcoco's annotations, which evaluators of other projects may change as pycocotools'.

    ``dataset`` can be changed in place; ``createIndex`` makes the change known.
    """

    @property
    def dataset(self) -> dict[str, Any]:
        if "_content" not in vars(self):
            self._content: dict[str, Any] = super().dataset
        return self._content

    @dataset.setter
    def dataset(self, content: dict[str, Any]) -> None:
        self._content = content
        self.createIndex()

    def createIndex(self) -> None:
        hotcoco.COCO.dataset.__set__(self, self.dataset)  # type: ignore[attr-defined]


def read_annotations(path: str) -> hotcoco.COCO:
    """Read a COCO file of this machine.

    Raises:
        InputError: If it is none.
    """
    try:
        return EditableCOCO(path)
    except ValueError:  # detectron2's converter writes null for what it has nothing to say of
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    try:
        return EditableCOCO({k: v for k, v in content.items() if v is not None})
    except (ValueError, AttributeError) as error:
        raise InputError(f"{path}: expected a COCO annotation file; {error}") from error


def has_annotations(coco: hotcoco.COCO, json_file: str) -> bool:
    """Say whether the file has annotations to compare with; those of test sets have none."""
    if coco.get_ann_ids():
        return True
    with PathManager.open(json_file, "r") as file:
        return "annotations" in json.load(file)


def instances_to_coco_json(instances: Any, img_id: int) -> list[dict[str, Any]]:
    """Return one image's predictions in COCO's result format.

    Args:
        instances: ``Instances`` on the CPU, with ``pred_boxes``, ``scores``, ``pred_classes``, and
            maybe ``pred_masks`` ``(N, H, W)`` and ``pred_keypoints`` ``(N, K, 3)``.
        img_id: the image's id in the dataset.

    Returns:
        A dict per instance: ``bbox`` is x, y, width, height in pixels, ``segmentation`` is
        compressed run lengths, ``keypoints`` is flat with x and y as pixel indices (a pixel's
        centre, which is at a half in our coordinates, is a whole number there).
    """
    if len(instances) == 0:
        return []
    boxes = BoxMode.convert(instances.pred_boxes.tensor, BoxMode.XYXY_ABS, BoxMode.XYWH_ABS)
    columns: dict[str, Iterable[Any]] = {
        "category_id": instances.pred_classes.tolist(),
        "bbox": boxes.tolist(),
        "score": instances.scores.tolist(),
    }
    if instances.has("pred_masks"):
        columns["segmentation"] = map(_encode, instances.pred_masks)
    if instances.has("pred_keypoints"):
        shift = torch.tensor([0.5, 0.5, 0.0])
        columns["keypoints"] = (instances.pred_keypoints - shift).flatten(start_dim=1).tolist()
    rows = zip(*columns.values(), strict=True)
    return [{"image_id": img_id, **dict(zip(columns, row, strict=True))} for row in rows]


def _encode(mask: Any) -> dict[str, Any]:
    """Return the run lengths of one mask ``(H, W)``, as JSON can hold them."""
    rle = hotcoco.mask.encode(np.asarray(mask).astype(np.uint8, copy=False))
    return {"size": list(rle["size"]), "counts": rle["counts"].decode("utf-8")}
