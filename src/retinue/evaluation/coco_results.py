"""COCO's rules on results that were kept: one task, all images.

``CocoStream`` does the same with predictions as they come.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import hotcoco
import torch

from retinue.evaluation.fast_eval_api import COCOeval_opt
from retinue.evaluation.proposal_recall import ProposalRecall
from retinue.utils.errors import InputError

__all__ = ["COCOevalMaxDets", "check_keypoints", "params_of"]


def _evaluate_box_proposals(
    dataset_predictions: Sequence[dict[str, Any]],
    coco_api: Any,
    thresholds: torch.Tensor | None = None,
    area: str = "all",
    limit: int | None = None,
) -> dict[str, Any]:
    """Return the recall of kept proposals; see ``ProposalRecall``."""
    recall = ProposalRecall(area, limit)
    for prediction in dataset_predictions:
        ids = coco_api.getAnnIds(imgIds=[prediction["image_id"]])
        recall.add(prediction["proposals"], coco_api.loadAnns(ids))
    return recall.summarize(thresholds)


class COCOevalMaxDets(COCOeval_opt):
    """COCO's evaluation with another limit on detections; every evaluation here does that."""


def params_of(
    task: str, max_dets: Sequence[int] | None, kpt_oks_sigmas: Sequence[float]
) -> hotcoco.Params:
    """Return the parameters of a task: COCO's own, but for limits and sigmas that are given."""
    params = hotcoco.Params(task)
    if task != "keypoints" and max_dets is not None:
        params.max_dets = sorted(max_dets)
    if task == "keypoints" and len(kpt_oks_sigmas):
        params.kpt_oks_sigmas = list(kpt_oks_sigmas)
    return params


def check_keypoints(coco: Any, results: Sequence[dict[str, Any]], params: Any) -> None:
    """Compare the numbers of keypoints in results, annotations and sigmas."""
    first = coco.loadAnns(coco.getAnnIds()[:1])
    num_annotated = len(first[0].get("keypoints", ())) // 3 if first else None
    num_predicted = len(results[0]["keypoints"]) // 3
    num_sigmas = len(params.kpt_oks_sigmas)
    if num_predicted != num_sigmas or num_annotated not in (None, num_sigmas):
        raise InputError(
            f"COCOEvaluator: expected one number of keypoints; predictions have {num_predicted},"
            f" annotations {num_annotated}, and there are {num_sigmas} sigmas; set"
            " TEST.KEYPOINT_OKS_SIGMAS to one per keypoint"
            " (http://cocodataset.org/#keypoints-eval)"
        )


def _evaluate_predictions_on_coco(
    coco_gt: Any,
    coco_results: Sequence[dict[str, Any]],
    iou_type: str,
    kpt_oks_sigmas: Sequence[float] | None = None,
    cocoeval_fn: Any = COCOeval_opt,
    img_ids: Iterable[int] | None = None,
    max_dets_per_image: Sequence[int] | None = None,
) -> Any:
    """Run COCO's evaluation on results in its format, and print its summary.

    Raises:
        InputError: If there are no results, fewer than three limits on detections, or other
            numbers of keypoints in results, annotations and sigmas.
    """
    if not coco_results:
        raise InputError("COCO evaluation: expected results; got none")
    if max_dets_per_image is not None and len(max_dets_per_image) < 3:
        raise InputError(f"max_dets_per_image: expected 3 limits; got {max_dets_per_image}")
    if iou_type == "segm":  # masks of a size count by their own area, not their box's
        coco_results = [{k: v for k, v in r.items() if k != "bbox"} for r in coco_results]
    coco_eval = cocoeval_fn(coco_gt, coco_gt.loadRes(list(coco_results)), iou_type)
    wanted = params_of(
        iou_type, max_dets_per_image, () if kpt_oks_sigmas is None else kpt_oks_sigmas
    )
    coco_eval.params.maxDets = wanted.max_dets
    if img_ids is not None:
        coco_eval.params.imgIds = list(img_ids)
    if iou_type == "keypoints":
        check_keypoints(coco_gt, coco_results, wanted)
        coco_eval.params.kpt_oks_sigmas = wanted.kpt_oks_sigmas
    coco_eval.evaluate()
    coco_eval.accumulate()
    coco_eval.summarize()
    return coco_eval
