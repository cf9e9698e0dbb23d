"""COCO's matching of detections to bodies, and what precision and recall are made of.

Shapes
    D detections, best score first, and G bodies, those to be ignored last, of an image and
    category; T thresholds; R recalls; K keypoints.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import hotcoco.mask as runs
import numpy as np

__all__ = [
    "Matching",
    "encode",
    "keypoint_similarity",
    "paste",
    "precision_recall",
    "sorted_outcomes",
]

KEYPOINT_SIGMAS = (
    np.array([26, 25, 25, 35, 35, 79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89]) / 1000
)


@dataclass
class Matching:
    """Who matches whom at each threshold.

    Attributes:
        thresholds: ``(T,)``.
        dt_ids: ``(D,)``, ids of detections.
        gt_ids: ``(G,)``, ids of bodies.
        ignored: ``(G,)`` bool, bodies that finding is neither right nor wrong.
        dt: ``(T, D)``, the body that each detection matches; 0 is none.
        gt: ``(T, G)``, the detection that each body matches; 0 is none.
        ignore_dt: ``(T, D)`` bool, detections that are neither right nor wrong.
    """

    thresholds: np.ndarray
    dt_ids: np.ndarray
    gt_ids: np.ndarray
    ignored: np.ndarray
    dt: np.ndarray
    gt: np.ndarray
    ignore_dt: np.ndarray

    @classmethod
    def empty(
        cls, thresholds: np.ndarray, dt_ids: np.ndarray, gt_ids: np.ndarray, ignored: np.ndarray
    ) -> "Matching":
        """Start without matches."""
        dt, gt = (np.zeros((len(thresholds), len(ids))) for ids in (dt_ids, gt_ids))
        return cls(thresholds, dt_ids, gt_ids, ignored, dt, gt, np.zeros(dt.shape, dtype=bool))

    def by_similarity(self, similarity: np.ndarray, crowd: np.ndarray) -> None:
        """Give each detection the most similar body that is free, not to be ignored if possible.

        Args:
            similarity: ``(D, G)``.
            crowd: ``(G,)`` bool, bodies that any number of detections may match.
        """
        thresholds = np.minimum(self.thresholds, 1 - 1e-10)[:, None]
        for i, row in enumerate(similarity):  # in the order of scores
            good = ((self.gt == 0) | crowd) & (row >= thresholds) & (row > 0)  # (T, G)
            best = _last_best(np.where(good & ~self.ignored, row, -1))
            best = np.where(best < 0, _last_best(np.where(good, row, -1)), best)
            hit = best >= 0
            self.ignore_dt[hit, i] = self.ignored[best[hit]]
            self.dt[hit, i] = self.gt_ids[best[hit]]
            self.gt[np.flatnonzero(hit), best[hit]] = self.dt_ids[i]

    def ignore_by_box(self, boxes: np.ndarray, crowd: np.ndarray) -> None:
        """Ignore detections of bodies to be ignored, which their boxes tell.

        They are those that match nothing at the highest threshold but whose box overlaps a body's
        by 0.8; what that body is, counts at all thresholds.

        Args:
            boxes: ``(D, G)``, overlaps of boxes.
            crowd: ``(G,)`` bool.
        """
        for i, row in enumerate(boxes):
            free = (self.gt[-1] == 0) | crowd
            best = _last_best(np.where(free & (row >= 0.8), row, -1)[None])[0]
            if self.dt[-1, i] or best < 0:
                continue
            self.ignore_dt[:, i] = self.ignored[best]
            if self.ignored[best]:
                self.dt[-1, i], self.gt[-1, best] = self.gt_ids[best], self.dt_ids[i]


def keypoint_similarity(
    dt: Sequence[Mapping[str, Any]], gt: Sequence[Mapping[str, Any]]
) -> np.ndarray:
    """Return the object keypoint similarity ``(D, G)`` of people with COCO's 17 keypoints."""
    true = np.array([row["keypoints"] for row in gt], dtype=float).reshape(len(gt), -1, 3)
    found = np.array([row["keypoints"] for row in dt], dtype=float).reshape(len(dt), 1, -1, 3)
    seen = true[..., 2] > 0  # (G, K)
    any_seen = np.any(seen, axis=1, keepdims=True)
    # Without labelled keypoints: how far a point is out of three boxes' width and height.
    start, size = np.split(np.array([row["bbox"] for row in gt], dtype=float)[:, None], 2, axis=2)
    points = found[..., :2]  # (D, 1, K, 2)
    outside = np.maximum(start - size - points, 0) + np.maximum(points - start - 2 * size, 0)
    offset = np.where(any_seen[..., None], points - true[..., :2], outside)  # (D, G, K, 2)
    area = np.array([row["area"] for row in gt])[:, None] + np.spacing(1)
    error = np.square(offset).sum(axis=3) / (2 * KEYPOINT_SIGMAS) ** 2 / area / 2
    weight = np.where(any_seen, seen, True)
    similarity: np.ndarray = (np.exp(-error) * weight).sum(axis=2) / weight.sum(axis=1)
    return similarity


def _last_best(scores: np.ndarray) -> np.ndarray:
    """Return the column of each row's largest value, the last of equals; -1 if all are negative."""
    reverse = scores[:, ::-1].argmax(axis=1)
    best = scores.shape[1] - 1 - reverse
    return np.where(scores.max(axis=1) < 0, -1, best)


def paste(mask: np.ndarray, box: Sequence[float], size_hw: tuple[int, int]) -> np.ndarray:
    """Paste a box's mask into an empty image ``(H, W)``; what lies outside is cut off."""
    x, y = int(box[0]), int(box[1])
    x1 = min(int(box[0] + box[2]), size_hw[1], x + mask.shape[1])
    y1 = min(int(box[1] + box[3]), size_hw[0], y + mask.shape[0])
    x0, y0 = max(x, 0), max(y, 0)
    image = np.zeros(size_hw, dtype=bool)
    if x1 > x0 and y1 > y0:
        image[y0:y1, x0:x1] = mask[y0 - y : y1 - y, x0 - x : x1 - x]
    return image


def encode(mask: np.ndarray) -> Any:
    """Return the run lengths of a mask ``(H, W)`` bool."""
    return runs.encode(np.asfortranarray(mask, dtype=np.uint8))


def sorted_outcomes(rows: Iterable[Mapping[str, Any]], limit: int) -> tuple[np.ndarray, np.ndarray]:
    """Say which detections, best score first, are right and which wrong: ``(T, D)`` bool each."""
    rows = list(rows)
    scores = np.concatenate([row["dtScores"][:limit] for row in rows])
    order = np.argsort(-scores, kind="stable")
    matched = np.concatenate([row["dtMatches"][:, :limit] for row in rows], axis=1)[:, order] != 0
    counts = ~np.concatenate([row["dtIgnore"][:, :limit] for row in rows], axis=1)[:, order]
    return matched & counts, ~matched & counts


def precision_recall(
    right: np.ndarray, wrong: np.ndarray, num_bodies: int, recalls: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the best precision at each recall or above ``(T, R)``; the last recall ``(T,)``."""
    hits, misses = right.cumsum(axis=1).astype(float), wrong.cumsum(axis=1)
    recall = hits / num_bodies
    precision = hits / (hits + misses + np.spacing(1))
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    padded = np.pad(precision, ((0, 0), (0, 1)))  # 0 at recalls that are not reached
    found = np.stack(
        [row[np.searchsorted(r, recalls)] for row, r in zip(padded, recall, strict=True)]
    )
    return found, recall[:, -1] if recall.shape[1] else np.zeros(len(recall))
