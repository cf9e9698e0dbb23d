"""How much of the annotated objects class-agnostic proposals cover.

Each object gets the overlap with a proposal of its own, best pairs first; recall at a threshold
is the share of objects whose overlap reaches it, average recall its mean over thresholds. The
method is Detectron's: https://github.com/facebookresearch/Detectron, json_dataset_evaluator.py.

Units: boxes are x0, y0, x1, y1 in pixels; areas are the annotations', in square pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from retinue.structures import Boxes, pairwise_iou
from retinue.utils.errors import unknown_name

__all__ = ["ProposalRecall", "best_pairs"]

_SMALL, _MEDIUM, _HUGE = 32.0**2, 96.0**2, 1e5**2
AREAS = {
    "all": (0.0, _HUGE),
    "small": (0.0, _SMALL),
    "medium": (_SMALL, _MEDIUM),
    "large": (_MEDIUM, _HUGE),
    "96-128": (_MEDIUM, 128.0**2),
    "128-256": (128.0**2, 256.0**2),
    "256-512": (256.0**2, 512.0**2),
    "512-inf": (512.0**2, _HUGE),
}


def best_pairs(overlaps: torch.Tensor) -> torch.Tensor:
    """Pair proposals and objects one to one, largest overlap first.

    Args:
        overlaps: ``(P, G)`` IoU of each proposal and object; not changed.

    Returns:
        ``(G,)``: the overlaps of the pairs in the order they were made, 0 for objects left over.
    """
    left = overlaps.numpy().copy()  # numpy: a step is too small for torch's threads to pay off
    num_proposals, num_objects = left.shape
    found = np.zeros(num_objects, dtype=left.dtype)
    for pair in range(min(num_proposals, num_objects)):  # greedy: each pair depends on the last
        proposals = left.argmax(axis=0)
        best = left[proposals, np.arange(num_objects)]
        column = best.argmax()
        found[pair] = best[column]
        left[proposals[column], :] = -1
        left[:, column] = -1
    return torch.from_numpy(found)


class ProposalRecall:
    """Collects overlaps image by image, for one range of areas and one number of proposals.

    Args:
        area: a key of ``AREAS``.
        limit: proposals that count per image, best objectness first; None counts all.
    """

    def __init__(self, area: str = "all", limit: int | None = None) -> None:
        if area not in AREAS:
            raise unknown_name("area range", area, AREAS)
        self._range = AREAS[area]
        self._limit = limit
        self._overlaps: list[torch.Tensor] = []
        self._num_objects = 0

    def add(self, proposals: Any, annotations: Sequence[dict[str, Any]]) -> None:
        """Add an image.

        Args:
            proposals: ``Instances`` with ``proposal_boxes`` and ``objectness_logits``.
            annotations: COCO's for this image; crowds do not count.
        """
        objects = [a for a in annotations if not a.get("iscrowd", 0)]
        if not objects or len(proposals) == 0:  # such an image does not count, as in detectron2
            return
        low, high = self._range
        objects = [a for a in objects if low <= a["area"] <= high]
        self._num_objects += len(objects)
        if not objects:
            return
        boxes = torch.tensor([a["bbox"] for a in objects], dtype=torch.float64)
        boxes[:, 2:] += boxes[:, :2]
        order = proposals.objectness_logits.sort(descending=True)[1][: self._limit]
        overlaps = pairwise_iou(proposals.proposal_boxes[order], Boxes(boxes))
        self._overlaps.append(best_pairs(overlaps))

    def merge(self, other: ProposalRecall) -> None:
        """Add what another process collected."""
        self._overlaps += other._overlaps
        self._num_objects += other._num_objects

    def summarize(self, thresholds: torch.Tensor | None = None) -> dict[str, Any]:
        """Return average recall ``ar``, ``recalls`` by threshold, and what they are made from."""
        if thresholds is None:
            thresholds = torch.arange(0.5, 0.95 + 1e-5, 0.05, dtype=torch.float32)
        overlaps = torch.cat([torch.zeros(0), *self._overlaps]).sort()[0]
        covered = (overlaps[None, :] >= thresholds[:, None]).float().sum(dim=1)
        recalls = covered / float(self._num_objects) if self._num_objects else covered * torch.nan
        return {
            "ar": recalls.mean(),
            "recalls": recalls,
            "thresholds": thresholds,
            "gt_overlaps": overlaps,
            "num_pos": self._num_objects,
        }
