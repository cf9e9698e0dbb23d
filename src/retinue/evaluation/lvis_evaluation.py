"""LVIS metrics: COCO's for federated annotations, plus AP of rare, common, frequent categories.

Matching is hotcoco's, which gives the numbers of LVIS's own package. Values are percentages.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Sequence
from typing import Any

import hotcoco
import torch

from retinue.config import CfgNode
from retinue.data.catalog import MetadataCatalog
from retinue.evaluation.coco_evaluation import COCOEvaluator
from retinue.evaluation.proposal_recall import ProposalRecall
from retinue.utils.file_io import PathManager
from retinue.utils.logger import create_small_table

__all__ = ["LVISEvaluator"]

METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "APr", "APc", "APf")
MAX_DETECTIONS = 300


class LVISEvaluator(COCOEvaluator):
    """AP of boxes and masks, and recall of proposals, by LVIS's rules.

    Predictions of all images stay in memory until ``evaluate``, with or without an ``output_dir``;
    masks run-length encoded.

    Args:
        dataset_name: a registered dataset with a file in LVIS's format.
        tasks: ``"bbox"``, ``"segm"``; None is what the predictions have.
        distributed: gather the results of all processes and evaluate on the main one.
        output_dir: where ``lvis_instances_results.json`` and ``instances_predictions.pth`` go.
        max_dets_per_image: detections that count per image; None is LVIS's 300.
    """

    def __init__(
        self,
        dataset_name: str,
        tasks: Sequence[str] | CfgNode | None = None,
        distributed: bool = True,
        output_dir: str | None = None,
        *,
        max_dets_per_image: int | None = None,
    ) -> None:
        self._logger = logging.getLogger(__name__)
        self._cpu_device = torch.device("cpu")
        self._tasks = None if tasks is None or isinstance(tasks, CfgNode) else tuple(tasks)
        self._distributed = distributed
        self._output_dir = output_dir
        self._max_detections = max_dets_per_image
        self._max_dets_per_image = max_dets_per_image  # type: ignore[assignment]  # for subclasses
        self._metadata = MetadataCatalog.get(dataset_name)
        self._coco_api = self._read_annotations(
            PathManager.get_local_path(self._metadata.json_file)
        )
        self._lvis_api = self._coco_api  # for subclasses
        self._do_evaluation = len(self._coco_api.get_ann_ids()) > 0
        self.reset()

    def _tasks_from_predictions(self, predictions: Sequence[dict[str, Any]]) -> list[str]:
        return ["bbox", "segm"] if any("segmentation" in p for p in predictions) else ["bbox"]

    def _to_dataset_categories(self, results: Sequence[dict[str, Any]]) -> None:
        """Replace contiguous class ids by the dataset's, which count from 1 in LVIS."""
        if self._metadata.get("thing_dataset_id_to_contiguous_id") is not None:
            super()._to_dataset_categories(results)
            return
        for result in results:
            result["category_id"] += 1

    def _eval_predictions(
        self, predictions: Sequence[dict[str, Any]], img_ids: Iterable[int] | None = None
    ) -> None:
        """Write kept predictions, and fill ``_results`` with the metrics of each task."""
        self._logger.info("Preparing results in the LVIS format ...")
        lvis_results = list(itertools.chain(*[p["instances"] for p in predictions]))
        tasks = self._tasks or self._tasks_from_predictions(lvis_results)
        self._to_dataset_categories(lvis_results)
        self._write_results(lvis_results, "lvis_instances_results.json")
        if not self._do_evaluation:
            self._logger.info("Annotations are not available for evaluation.")
            return
        self._logger.info("Evaluating predictions ...")
        for task in sorted(tasks):
            self._results[task] = _evaluate_predictions_on_lvis(
                self._coco_api,
                lvis_results,
                task,
                max_dets_per_image=self._max_detections,
                class_names=self._metadata.get("thing_classes"),
            )


def _evaluate_predictions_on_lvis(
    lvis_gt: Any,
    lvis_results: Sequence[dict[str, Any]],
    iou_type: str,
    max_dets_per_image: int | None = None,
    class_names: Sequence[str] | None = None,
) -> dict[str, float]:
    """Run LVIS's evaluation on results in COCO's result format; ``class_names`` is not used."""
    logger = logging.getLogger(__name__)
    if not lvis_results:
        logger.warning("No predictions from the model!")
        return dict.fromkeys(METRICS, float("nan"))
    if iou_type == "segm":  # masks of a size count by their own area, not their box's
        lvis_results = [{k: v for k, v in r.items() if k != "bbox"} for r in lvis_results]
    limit = MAX_DETECTIONS if max_dets_per_image is None else max_dets_per_image
    detections = hotcoco.LVISResults(lvis_gt, list(lvis_results), max_dets=limit)
    lvis_eval = hotcoco.LVISEval(lvis_gt, detections, iou_type)
    lvis_eval.run()
    lvis_eval.print_results()
    scores = lvis_eval.get_results()
    results = {metric: 100 * float(scores[metric]) for metric in METRICS}
    logger.info(f"Evaluation results for {iou_type}: \n" + create_small_table(results))
    return results


def _evaluate_box_proposals(
    dataset_predictions: Sequence[dict[str, Any]],
    lvis_api: Any,
    thresholds: torch.Tensor | None = None,
    area: str = "all",
    limit: int | None = None,
) -> dict[str, Any]:
    """Return the recall of kept proposals; see ``ProposalRecall``."""
    recall = ProposalRecall(area, limit)
    for prediction in dataset_predictions:
        ids = lvis_api.get_ann_ids(img_ids=[prediction["image_id"]])
        recall.add(prediction["proposals"], lvis_api.load_anns(ids))
    return recall.summarize(thresholds)
