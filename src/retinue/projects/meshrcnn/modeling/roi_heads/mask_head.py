"""The loss of masks whose truth is a bitmap that fills its box."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional as F

from retinue.projects.meshrcnn.structures.mask import batch_crop_masks_within_box
from retinue.structures import Instances
from retinue.utils.events import log_scalars

__all__ = ["mask_rcnn_loss"]


def mask_rcnn_loss(
    pred_mask_logits: torch.Tensor, instances: Sequence[Instances]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compare each region's mask, of its true class, with the truth in the region.

    Args:
        pred_mask_logits: ``(R, K, M, M)``, or ``(R, 1, M, M)`` where classes share a mask.
        instances: per image, in the same order, with ``proposal_boxes``, ``gt_classes`` and
            ``gt_masks``, ``(R_i, H, W)``.

    Returns:
        Mean binary cross entropy, 0 without regions, and the true masks ``(R, M, M)``.
    """
    side = pred_mask_logits.shape[2]
    target = torch.cat(
        [pred_mask_logits.new_zeros(0, side, side)]
        + [
            batch_crop_masks_within_box(i.gt_masks, i.proposal_boxes.tensor, side)
            for i in instances
            if len(i)
        ]
    )
    logits = of_true_class(pred_mask_logits, instances)
    if not len(target):
        return logits.sum() * 0, target
    log_scalars({"mask_rcnn/accuracy": ((logits > 0.5) == (target > 0.5)).float().mean()})
    return F.binary_cross_entropy_with_logits(logits, target.to(logits)), target


def of_true_class(values: torch.Tensor, instances: Sequence[Instances]) -> torch.Tensor:
    """Select ``(R, ...)`` of ``(R, K, ...)`` by ``gt_classes``; of K = 1 there is no choice."""
    return of_class(values, [i.gt_classes for i in instances if len(i)])


def of_class(values: torch.Tensor, labels: Sequence[torch.Tensor]) -> torch.Tensor:
    """Select ``(R, ...)`` of ``(R, K, ...)`` by labels, image by image; of K = 1 the only one."""
    if values.shape[1] == 1 or not len(values):
        return values[:, 0]
    return values[torch.arange(len(values), device=values.device), torch.cat(list(labels)).long()]
