"""Pairs of an object in this frame and one in the last that may be the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from retinue.structures import Instances

__all__ = ["LARGE_COST_VALUE", "create_prediction_pairs"]

LARGE_COST_VALUE = 100000
"""The cost of a pair that must not be matched."""


def create_prediction_pairs(
    instances: Instances,
    prev_instances: Instances,
    iou_all: np.ndarray | torch.Tensor,
    threshold: float = 0.5,
) -> list[dict[str, Any]]:
    """List the pairs of objects whose boxes overlap enough.

    Args:
        instances: N objects of this frame.
        prev_instances: M objects of the last, with ``ID`` and ``ID_period``.
        iou_all: ``(N, M)`` intersection over union of their boxes.
        threshold: the least IoU of a pair.

    Returns:
        dicts of ``idx``, ``prev_idx``, ``prev_id``, ``IoU`` and ``prev_period``.
    """
    iou = torch.as_tensor(iou_all)
    return [
        {
            "idx": idx,
            "prev_idx": prev_idx,
            "prev_id": prev_instances.ID[prev_idx],
            "IoU": float(iou[idx, prev_idx]),
            "prev_period": prev_instances.ID_period[prev_idx],
        }
        for idx, prev_idx in (iou >= threshold).nonzero().tolist()
    ]
