"""Losses of boxes and of dense classification.

Boxes are ``(..., 4)``, rows ``x0, y0, x1, y1`` in any unit. ``reduction`` is ``"none"``, ``"mean"``
or ``"sum"``; the mean of nothing is 0 and stays in the graph. Half-precision logits are computed
in float32.
"""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F

__all__ = [
    "ciou_loss",
    "diou_loss",
    "giou_loss",
    "sigmoid_focal_loss",
    "sigmoid_focal_loss_jit",
    "sigmoid_focal_loss_star",
    "sigmoid_focal_loss_star_jit",
    "smooth_l1_loss",
]


def _reduce(loss: torch.Tensor, reduction: str) -> torch.Tensor:
    if reduction == "mean":
        return loss.mean() if loss.numel() > 0 else 0.0 * loss.sum()
    return loss.sum() if reduction == "sum" else loss


def _at_least_float32(x: torch.Tensor) -> torch.Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def smooth_l1_loss(
    input: torch.Tensor, target: torch.Tensor, beta: float, reduction: str = "none"
) -> torch.Tensor:
    """Return ``0.5 * d**2 / beta`` for a difference ``|d| < beta``, else ``|d| - 0.5 * beta``.

    Girshick, "Fast R-CNN" (2015), eq. 3, with the kink moved to ``beta``. With ``beta`` below
    1e-5 it is the L1 loss, whose gradient, unlike the limit's, is never nan.

    Args:
        input: any shape.
        target: the same shape.
        beta: where the square turns into a line; 0 or more.
        reduction: ``"none"``, ``"mean"`` or ``"sum"``.
    """
    distance = (input - target).abs()
    if beta >= 1e-5:
        square = 0.5 * distance**2 / beta
        distance = torch.where(distance < beta, square, distance - 0.5 * beta)
    return _reduce(distance, reduction)


def _overlap(
    boxes1: torch.Tensor, boxes2: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return IoU, union and the size ``(..., 2)`` of the smallest box around both boxes."""
    size1, size2 = boxes1[..., 2:] - boxes1[..., :2], boxes2[..., 2:] - boxes2[..., :2]
    inner = torch.min(boxes1[..., 2:], boxes2[..., 2:]) - torch.max(
        boxes1[..., :2], boxes2[..., :2]
    )
    outer = torch.max(boxes1[..., 2:], boxes2[..., 2:]) - torch.min(
        boxes1[..., :2], boxes2[..., :2]
    )
    # Zero where they don't overlap, with a zero gradient; clamping would leak one along an edge.
    is_overlap = (inner > 0).all(dim=-1)
    intersection = torch.where(is_overlap, inner[..., 0] * inner[..., 1], 0.0)
    union = size1.prod(dim=-1) + size2.prod(dim=-1) - intersection
    return intersection / (union + eps), union, outer


def giou_loss(
    boxes1: torch.Tensor, boxes2: torch.Tensor, reduction: str = "none", eps: float = 1e-7
) -> torch.Tensor:
    """Return 1 minus the generalised IoU of boxes, row by row, in [0, 2].

    Rezatofighi et al. (2019), https://arxiv.org/abs/1902.09630.

    Args:
        boxes1: ``(..., 4)``.
        boxes2: ``(..., 4)``.
        reduction: ``"none"``, ``"mean"`` or ``"sum"``.
        eps: added to areas that are divided by.
    """
    iou, union, outer = _overlap(boxes1, boxes2, eps)
    outer_area = outer.prod(dim=-1)
    return _reduce(1 - iou + (outer_area - union) / (outer_area + eps), reduction)


def _distance_loss(boxes1: torch.Tensor, boxes2: torch.Tensor, eps: float) -> torch.Tensor:
    iou, _, outer = _overlap(boxes1, boxes2, eps)
    between = (boxes1[..., :2] + boxes1[..., 2:] - boxes2[..., :2] - boxes2[..., 2:]) / 2
    return 1 - iou + between.square().sum(dim=-1) / (outer.square().sum(dim=-1) + eps)


def diou_loss(
    boxes1: torch.Tensor, boxes2: torch.Tensor, reduction: str = "none", eps: float = 1e-7
) -> torch.Tensor:
    """Return the distance-IoU loss: 1 - IoU + (centre distance / diagonal of the hull)**2.

    Zheng et al. (2019), eq. 7, https://arxiv.org/abs/1911.08287.

    Args:
        boxes1: ``(..., 4)``.
        boxes2: ``(..., 4)``.
        reduction: ``"none"``, ``"mean"`` or ``"sum"``.
        eps: added to what is divided by.
    """
    return _reduce(_distance_loss(boxes1, boxes2, eps), reduction)


def ciou_loss(
    boxes1: torch.Tensor, boxes2: torch.Tensor, reduction: str = "none", eps: float = 1e-7
) -> torch.Tensor:
    """Return the complete-IoU loss: the distance-IoU loss plus a term for the aspect ratio.

    Zheng et al. (2019), eq. 10, https://arxiv.org/abs/1911.08287. The weight of the last term
    is a constant to the gradient.

    Args:
        boxes1: ``(..., 4)``, the predictions.
        boxes2: ``(..., 4)``, of positive height.
        reduction: ``"none"``, ``"mean"`` or ``"sum"``.
        eps: added to what is divided by.
    """
    size1, size2 = boxes1[..., 2:] - boxes1[..., :2], boxes2[..., 2:] - boxes2[..., :2]
    angle1 = torch.atan(size1[..., 0] / size1[..., 1])
    angle2 = torch.atan(size2[..., 0] / size2[..., 1])
    aspect = (4 / math.pi**2) * (angle2 - angle1).square()
    with torch.no_grad():
        iou, _, _ = _overlap(boxes1, boxes2, eps)
        weight = aspect / (1 - iou + aspect + eps)
    return _reduce(_distance_loss(boxes1, boxes2, eps) + weight * aspect, reduction)


def sigmoid_focal_loss(
    inputs: torch.Tensor,
    targets: torch.Tensor,
    alpha: float = -1,
    gamma: float = 2,
    reduction: str = "none",
) -> torch.Tensor:
    """Return the binary cross entropy weighed by ``(1 - p)**gamma``, p that of the right answer.

    Lin et al., "Focal Loss for Dense Object Detection" (2017), https://arxiv.org/abs/1708.02002.

    Args:
        inputs: logits of any shape.
        targets: the same shape, 0 or 1.
        alpha: weight of positives, ``1 - alpha`` that of negatives; no weights if negative.
        gamma: how much easy examples count less.
        reduction: ``"none"``, ``"mean"`` or ``"sum"``.
    """
    inputs, targets = _at_least_float32(inputs), _at_least_float32(targets)
    p = inputs.sigmoid()
    p_wrong = p + targets - 2 * p * targets
    loss = F.binary_cross_entropy_with_logits(inputs, targets, reduction="none") * p_wrong**gamma
    return _reduce(_balance(loss, targets, alpha), reduction)


def sigmoid_focal_loss_star(
    inputs: torch.Tensor,
    targets: torch.Tensor,
    alpha: float = -1,
    gamma: float = 1,
    reduction: str = "none",
) -> torch.Tensor:
    """Return the variant FL* of the focal loss: ``-log(sigmoid(gamma * x)) / gamma``.

    x is the logit of the right answer. Lin et al. (2017), appendix A, with beta = 0.

    Args:
        inputs: logits of any shape.
        targets: the same shape, 0 or 1.
        alpha: weight of positives, ``1 - alpha`` that of negatives; no weights if negative.
        gamma: how steep the loss is.
        reduction: ``"none"``, ``"mean"`` or ``"sum"``.
    """
    inputs, targets = _at_least_float32(inputs), _at_least_float32(targets)
    loss = -F.logsigmoid(gamma * inputs * (2 * targets - 1)) / gamma
    return _reduce(_balance(loss, targets, alpha), reduction)


def _balance(loss: torch.Tensor, targets: torch.Tensor, alpha: float) -> torch.Tensor:
    return loss * (alpha * targets + (1 - alpha) * (1 - targets)) if alpha >= 0 else loss


# torch.compile fuses these whole; nothing is left for TorchScript to do.
sigmoid_focal_loss_jit = sigmoid_focal_loss
sigmoid_focal_loss_star_jit = sigmoid_focal_loss_star
