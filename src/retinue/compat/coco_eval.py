"""COCO's matching and averaging as ``detectron2._C`` offers them, for evaluators built on it.

The algorithm is that of pycocotools' ``COCOeval``, https://github.com/cocodataset/cocoapi. An
evaluator of one's own had better use ``retinue.evaluation``, which is many times faster.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = [
    "COCOevalAccumulate",
    "COCOevalEvaluateImages",
    "ImageEvaluation",
    "InstanceAnnotation",
]


@dataclass
class InstanceAnnotation:
    """One annotated or detected object; ``area`` in pixels."""

    id: int
    score: float
    area: float
    is_crowd: bool
    ignore: bool


@dataclass
class ImageEvaluation:
    """The matches of one image, category and range of areas.

    Attributes:
        detection_matches: for each IoU threshold, then each detection, best score first: the id of
            the matched object, or 0.
        detection_scores: by detection.
        ground_truth_ignores: by object: whether it does not count.
        detection_ignores: as ``detection_matches``: whether a detection does not count.
    """

    detection_matches: list[int] = field(default_factory=list)
    detection_scores: list[float] = field(default_factory=list)
    ground_truth_ignores: list[bool] = field(default_factory=list)
    detection_ignores: list[bool] = field(default_factory=list)


def COCOevalEvaluateImages(
    area_ranges: Sequence[Sequence[float]],
    max_detections: int,
    iou_thresholds: Sequence[float],
    image_category_ious: Sequence[Sequence[Any]],
    image_category_ground_truth_instances: Sequence[Sequence[Sequence[InstanceAnnotation]]],
    image_category_detection_instances: Sequence[Sequence[Sequence[InstanceAnnotation]]],
) -> list[ImageEvaluation]:
    """Match detections with objects.

    Args:
        area_ranges: (least, largest) areas in pixels, A of them.
        max_detections: how many detections of an image and category are matched.
        iou_thresholds: T of them.
        image_category_ious: ``[i][c][d][g]`` overlaps of detections, best score first, and objects.
        image_category_ground_truth_instances: objects, ``[i][c][g]``.
        image_category_detection_instances: detections, ``[i][c][d]``.

    Returns:
        one result a category, range of areas and image, in this order.
    """
    num_images = len(image_category_ground_truth_instances)
    num_categories = len(image_category_ious[0]) if num_images else 0
    return [
        _match(
            image_category_ground_truth_instances[image][category],
            image_category_detection_instances[image][category],
            image_category_ious[image][category],
            area_range,
            max_detections,
            iou_thresholds,
        )
        for category in range(num_categories)
        for area_range in area_ranges
        for image in range(num_images)
    ]


def _match(
    objects: Sequence[InstanceAnnotation],
    detections: Sequence[InstanceAnnotation],
    ious: Any,
    area_range: Sequence[float],
    max_detections: int,
    iou_thresholds: Sequence[float],
) -> ImageEvaluation:
    low, high = area_range
    ignores = [o.ignore or not low <= o.area <= high for o in objects]
    order = sorted(range(len(objects)), key=lambda g: ignores[g])  # those that count come first
    ranked = sorted(detections, key=lambda d: -d.score)[:max_detections]
    result = ImageEvaluation(
        detection_scores=[d.score for d in ranked],
        ground_truth_ignores=[ignores[g] for g in order],
    )
    for threshold in iou_thresholds:
        taken: set[int] = set()
        for d, detection in enumerate(ranked):
            match = _best_object(objects, order, ignores, taken, ious, d, threshold)
            if match is None:
                is_ignored = not low <= detection.area <= high
                result.detection_matches.append(0)
            else:
                taken.add(match)
                is_ignored = ignores[match]
                result.detection_matches.append(objects[match].id)
            result.detection_ignores.append(is_ignored)
    return result


def _best_object(
    objects: Sequence[InstanceAnnotation],
    order: Sequence[int],
    ignores: Sequence[bool],
    taken: set[int],
    ious: Any,
    d: int,
    threshold: float,
) -> int | None:
    """Return the free object that a detection overlaps most, one that counts before others."""
    best, least = None, min(threshold, 1 - 1e-10)
    for g in order:
        if g in taken and not objects[g].is_crowd:  # a crowd may be matched many times
            continue
        if best is not None and not ignores[best] and ignores[g]:
            break
        if ious[d][g] >= least:
            best, least = g, ious[d][g]
    return best


def COCOevalAccumulate(params: Any, evaluations: Sequence[ImageEvaluation]) -> dict[str, Any]:
    """Make precision and recall from the matches.

    Args:
        params: thresholds T, recalls R, categories K, areas A and numbers of detections M, in the
            attributes of pycocotools' ``Params``.
        evaluations: what ``COCOevalEvaluateImages`` returned.

    Returns:
        ``precision`` and ``scores`` ``(T, R, K, A, M)``, ``recall`` ``(T, K, A, M)``, -1 where
        there are no objects; ``counts``, ``params`` and ``date``.
    """
    num_thresholds, num_recalls = len(params.iouThrs), len(params.recThrs)
    num_categories = len(params.catIds) if params.useCats else 1
    num_areas, num_images = len(params.areaRng), len(params.imgIds)
    counts = [num_thresholds, num_recalls, num_categories, num_areas, len(params.maxDets)]
    precision, scores = -np.ones(counts), -np.ones(counts)
    recall = -np.ones([num_thresholds, *counts[2:]])
    for k in range(num_categories):
        for a in range(num_areas):
            start = (k * num_areas + a) * num_images
            images = evaluations[start : start + num_images]
            for m, max_detections in enumerate(params.maxDets):
                curve = _curve(images, params, max_detections)
                if curve is not None:
                    precision[:, :, k, a, m], recall[:, k, a, m], scores[:, :, k, a, m] = curve
    return {
        "params": params,
        "counts": counts,
        "date": time.strftime("%Y-%m-%d %H:%M:%S"),
        "precision": precision,
        "recall": recall,
        "scores": scores,
    }


def _curve(
    images: Sequence[ImageEvaluation], params: Any, max_detections: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Return precision ``(T, R)``, final recall ``(T,)`` and scores ``(T, R)`` of one setting."""
    num_objects = sum(not ignore for image in images for ignore in image.ground_truth_ignores)
    if num_objects == 0:
        return None
    num_thresholds, recalls = len(params.iouThrs), np.asarray(params.recThrs)

    def joined(name: str, dtype: Any) -> np.ndarray:
        parts = [
            np.array(getattr(image, name), dtype).reshape(
                num_thresholds, len(image.detection_scores)
            )[:, :max_detections]
            for image in images
        ]
        return np.concatenate(parts, axis=1)

    all_scores = np.concatenate([image.detection_scores[:max_detections] for image in images])
    order = np.argsort(-all_scores, kind="stable")
    all_scores = all_scores[order]
    is_match = joined("detection_matches", np.int64)[:, order] > 0
    counts = ~joined("detection_ignores", bool)[:, order]
    hits = np.cumsum(is_match & counts, axis=1, dtype=float)
    misses = np.cumsum(~is_match & counts, axis=1, dtype=float)

    precision = np.zeros((num_thresholds, len(recalls)))
    scores = np.zeros_like(precision)
    final_recall = np.zeros(num_thresholds)
    for t in range(num_thresholds):
        recall = hits[t] / num_objects
        rate = hits[t] / np.maximum(hits[t] + misses[t], np.spacing(1))
        envelope = np.maximum.accumulate(rate[::-1])[::-1]
        at = np.searchsorted(recall, recalls, side="left")
        reached = at < len(recall)
        precision[t, reached] = envelope[at[reached]]
        scores[t, reached] = all_scores[at[reached]]
        final_recall[t] = recall[-1] if len(recall) else 0.0
    return precision, final_recall, scores
