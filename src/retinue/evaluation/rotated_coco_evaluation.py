"""COCO's box metrics for rotated boxes.

A rotated box is x and y of the centre, width, height, angle in degrees, as in ``RotatedBoxes``; in
annotation files and results ``bbox`` has these five numbers. Matching is hotcoco's, by the overlap
of the polygons; the angle itself is not judged.

Reading order: RotatedCOCOEvaluator; with_oriented_boxes, which rewrites five-number boxes in
hotcoco's form; RotatedCOCOeval.
"""

from __future__ import annotations

import itertools
import json
import math
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import hotcoco
import hotcoco.mask
import numpy as np
import torch

from retinue.evaluation.coco_evaluation import COCOEvaluator
from retinue.evaluation.fast_eval_api import COCOeval_opt
from retinue.structures import BoxMode, Instances, RotatedBoxes, pairwise_iou_rotated
from retinue.utils.errors import InputError

__all__ = ["RotatedCOCOEvaluator", "RotatedCOCOeval"]


def with_oriented_boxes(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Give annotations or results the ``obb`` (angle in radians) that hotcoco matches by.

    ``bbox`` becomes the upright box around it; one of four numbers stays, with an angle of 0.
    """
    converted = []
    for row in rows:
        if "obb" in row:
            # hotcoco gives a result the area of the upright box; its size is that of its own
            own = {"area": row["obb"][2] * row["obb"][3]} if "score" in row else {}
            converted.append(row | own)
            continue
        box = [float(number) for number in row["bbox"]]
        if len(box) == 4:
            x, y, w, h = box
            box = [x + w / 2, y + h / 2, w, h, 0.0]
        x, y, w, h, degrees = box
        angle = -math.radians(degrees)  # ours turns counter-clockwise, with y pointing down
        cos, sin = abs(math.cos(angle)), abs(math.sin(angle))
        width, height = w * cos + h * sin, w * sin + h * cos
        hull = [x - width / 2, y - height / 2, width, height]
        converted.append({"area": w * h, **row, "bbox": hull, "obb": [x, y, w, h, angle]})
    return converted


def _rotated_coco(dataset: dict[str, Any]) -> hotcoco.COCO:
    annotations = with_oriented_boxes(dataset.get("annotations", ()))
    return hotcoco.COCO({**dataset, "annotations": annotations})


class RotatedCOCOeval(COCOeval_opt):
    """COCO's evaluation of boxes that may be rotated.

    Args:
        cocoGt, cocoDt: datasets of hotcoco or pycocotools, with boxes of four or five numbers.
        iouType: ``"bbox"``; nothing else is known for rotated boxes.
    """

    def __init__(self, cocoGt: Any = None, cocoDt: Any = None, iouType: str = "bbox") -> None:
        if iouType != "bbox":
            raise InputError(f"RotatedCOCOeval: expected iouType 'bbox'; got {iouType!r}")
        super().__init__(_rotated_coco(cocoGt.dataset), _rotated_coco(cocoDt.dataset), iouType)

    def _make_inner(self) -> Any:
        with warnings.catch_warnings():  # there is no reference for rotated boxes to compare with
            warnings.filterwarnings("ignore", message="hotcoco: oriented-box")
            return hotcoco.COCOeval(self.cocoGt, self.cocoDt, "obb")

    def summarize(self) -> None:
        """Print the twelve usual numbers; they are in ``stats`` then."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="hotcoco: oriented-box")
            super().summarize()

    @staticmethod
    def is_rotated(box_list: Any) -> bool:
        """Say whether boxes (a list of rows, or an array) have five numbers each."""
        if isinstance(box_list, np.ndarray):
            return bool(box_list.shape[1] == 5)
        return isinstance(box_list, list) and bool(box_list) and all(len(b) == 5 for b in box_list)

    @staticmethod
    def boxlist_to_tensor(boxlist: Any, output_box_dim: int) -> torch.Tensor:
        """Return boxes as ``(N, output_box_dim)``; upright ones (x, y, w, h) get an angle of 0.

        Raises:
            InputError: If they are no boxes, or rotated ones should become upright.
        """
        if not isinstance(boxlist, (list, np.ndarray)):
            raise InputError(f"boxlist_to_tensor: expected a list or an array; got {boxlist!r}")
        boxes = torch.as_tensor(np.asarray(boxlist), dtype=torch.float32)
        if len(boxes) == 0:
            return torch.zeros(0, output_box_dim)
        if boxes.shape[1] == 4 and output_box_dim == 5:
            return BoxMode.convert(boxes, BoxMode.XYWH_ABS, BoxMode.XYWHA_ABS)
        if boxes.shape[1] != output_box_dim:
            raise InputError(
                f"boxlist_to_tensor: boxes of {boxes.shape[1]} numbers cannot become boxes of"
                f" {output_box_dim}"
            )
        return boxes

    def compute_iou_dt_gt(self, dt: Any, gt: Any, is_crowd: Sequence[int]) -> Any:
        """Return the ``(D, G)`` overlaps of two lists of boxes; rotated if one of them is.

        Raises:
            InputError: If a rotated box is a crowd; there is no rule for that.
        """
        if not (self.is_rotated(dt) or self.is_rotated(gt)):
            return hotcoco.mask.iou(dt, gt, is_crowd)
        if any(is_crowd):
            raise InputError("rotated boxes: expected iscrowd 0; got a crowd annotation")
        boxes = (RotatedBoxes(self.boxlist_to_tensor(b, output_box_dim=5)) for b in (dt, gt))
        return pairwise_iou_rotated(*boxes)

    def computeIoU(self, imgId: int, catId: int) -> Any:
        """Return the overlaps in an image and category, best score first; [] if a side is empty."""

        def boxes(coco: hotcoco.COCO) -> list[dict[str, Any]]:
            ids = coco.get_ann_ids(img_ids=[imgId], cat_ids=[catId])
            return sorted(coco.load_anns(ids), key=lambda row: -row.get("score", 0.0))

        gt, dt = boxes(self.cocoGt), boxes(self.cocoDt)[: max(self.params.maxDets)]
        if not gt or not dt:
            return []
        rows = [[*row["obb"][:4], -math.degrees(row["obb"][4])] for row in (*dt, *gt)]
        crowds = [row.get("iscrowd", 0) for row in gt]
        return self.compute_iou_dt_gt(rows[: len(dt)], rows[len(dt) :], crowds)


class RotatedCOCOEvaluator(COCOEvaluator):
    """``COCOEvaluator`` for models that predict ``RotatedBoxes``; boxes only.

    Predictions of all images stay in memory until ``evaluate``, with or without an ``output_dir``.
    """

    def _read_annotations(self, path: str) -> hotcoco.COCO:
        with open(path, encoding="utf-8") as file:
            return _rotated_coco(json.load(file))

    def _to_results(self, instances: Instances, image_id: int) -> list[dict[str, Any]]:
        return self.instances_to_json(instances, image_id)

    def instances_to_json(self, instances: Any, img_id: int) -> list[dict[str, Any]]:
        """Return one image's predictions; ``bbox`` has five numbers, or four for upright boxes."""
        boxes = instances.pred_boxes.tensor
        if boxes.shape[1] == 4:
            boxes = BoxMode.convert(boxes, BoxMode.XYXY_ABS, BoxMode.XYWH_ABS)
        columns = (instances.pred_classes.tolist(), boxes.tolist(), instances.scores.tolist())
        return [
            {"image_id": img_id, "category_id": category, "bbox": box, "score": score}
            for category, box, score in zip(*columns, strict=True)
        ]

    def _eval_predictions(
        self, predictions: Sequence[dict[str, Any]], img_ids: Iterable[int] | None = None
    ) -> None:
        """Write kept predictions, and fill ``_results``; ``img_ids`` is not used, as ever."""
        if self._tasks is not None and set(self._tasks) != {"bbox"}:
            raise InputError(f"RotatedCOCOEvaluator: tasks must be ('bbox',); got {self._tasks}")
        coco_results = list(itertools.chain(*[p["instances"] for p in predictions]))
        self._to_dataset_categories(coco_results)
        self._write_results(coco_results, "coco_instances_results.json")
        if not self._do_evaluation:
            self._logger.info("Annotations are not available for evaluation.")
            return
        coco_eval = None
        if coco_results:
            coco_eval = self._evaluate_predictions_on_coco(self._coco_api, coco_results)
        self._results["bbox"] = self._derive_coco_results(
            coco_eval, "bbox", class_names=self._metadata.get("thing_classes")
        )

    def _evaluate_predictions_on_coco(
        self, coco_gt: Any, coco_results: Sequence[dict[str, Any]]
    ) -> Any:
        detections = coco_gt.load_res(with_oriented_boxes(coco_results))
        coco_eval = RotatedCOCOeval(coco_gt, detections, iouType="bbox")
        coco_eval.evaluate()
        coco_eval.accumulate()
        coco_eval.summarize()
        return coco_eval
