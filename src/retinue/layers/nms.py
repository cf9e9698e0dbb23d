"""Non-maximum suppression: of boxes that overlap, keep the one with the highest score.

Shapes
    N boxes; D numbers that describe a box; K kept.

Boxes are taken in the order of their scores, the first of equals first; a box is kept unless a kept
one before it overlaps it by more than the threshold. Results equal this definition exactly.
greedy.py does the selection; here is what overlapping means.

Reading order: nms and its variants, _nms_kernel, _upright_overlap, _rotated_overlap.
"""

from __future__ import annotations

import torch

from retinue.layers.greedy import Conflict, select
from retinue.layers.operators import register_operator
from retinue.layers.rotated_boxes import iou_of_rotated_pairs, upright_bounds
from retinue.utils.errors import expect_shape

__all__ = ["batched_nms", "batched_nms_rotated", "nms", "nms_rotated"]


def _upright_overlap(boxes: torch.Tensor, iou_threshold: float) -> tuple[torch.Tensor, Conflict]:
    """Describe boxes ``(N, 4)`` for ``select``, and tell which have an IoU above the threshold.

    Returns:
        ``(5, N)`` corners and areas; and what compares columns of it.
    """
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    # The largest number of the boxes' dtype that isn't above the threshold: comparing with it is
    # comparing in double precision, which decides exact ties.
    rounded = torch.tensor(iou_threshold, dtype=boxes.dtype)
    if rounded.item() > iou_threshold:
        rounded = torch.nextafter(rounded, torch.full_like(rounded, -torch.inf))
    threshold = rounded.item()

    def overlap(rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        a, b = rows[:, :, None], columns[:, None, :]  # (5, n, 1) and (5, 1, m)
        width = torch.minimum(a[2], b[2]).sub_(torch.maximum(a[0], b[0])).clamp_(min=0)
        height = torch.minimum(a[3], b[3]).sub_(torch.maximum(a[1], b[1])).clamp_(min=0)
        common = width.mul_(height)
        iou = common.div_((a[4] + b[4]).sub_(common))
        if iou.device.type == "cpu":  # where numpy compares eight times as fast
            return torch.from_numpy(iou.numpy() > threshold)
        return iou > threshold

    return torch.cat([boxes.T, area[None]]), overlap


def _rotated_overlap(boxes: torch.Tensor, iou_threshold: float) -> tuple[torch.Tensor, Conflict]:
    """Do what ``_upright_overlap`` does with boxes ``(N, 5)``.

    Returns:
        ``(9, N)`` upright bounds and the five numbers; and what compares columns of it.
    """

    def overlap(rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        a, b = rows[:, :, None], columns[:, None, :]  # (9, n, 1) and (9, 1, m)
        is_above = (a[0] <= b[2]) & (b[0] <= a[2]) & (a[1] <= b[3]) & (b[1] <= a[3])
        if iou_threshold < 0:
            is_above = torch.ones_like(is_above)
        row, column = is_above.nonzero(as_tuple=True)
        iou = iou_of_rotated_pairs(rows[4:, row].T, columns[4:, column].T)
        is_above[row, column] = iou > iou_threshold
        return is_above

    return torch.cat([upright_bounds(boxes), boxes], dim=1).T.contiguous(), overlap


def _nms_kernel(
    boxes: torch.Tensor, scores: torch.Tensor, idxs: torch.Tensor | None, iou_threshold: float
) -> torch.Tensor:
    order = scores.argsort(descending=True, stable=True)
    boxes = boxes.to(torch.promote_types(boxes.dtype, torch.float32))[order]
    describe = _rotated_overlap if boxes.shape[1] == 5 else _upright_overlap
    numbers, overlap = describe(boxes, iou_threshold)
    return order[select(numbers, None if idxs is None else idxs[order], overlap)]


def _fake_nms(
    boxes: torch.Tensor, scores: torch.Tensor, idxs: torch.Tensor | None, iou_threshold: float
) -> torch.Tensor:
    return boxes.new_empty(torch.library.get_ctx().new_dynamic_size(), dtype=torch.int64)


_nms_op = register_operator(
    "nms(Tensor boxes, Tensor scores, Tensor? idxs, float iou_threshold) -> Tensor",
    _nms_kernel,
    fake=_fake_nms,
)


def _nms(
    name: str,
    boxes: torch.Tensor,
    scores: torch.Tensor,
    idxs: torch.Tensor | None,
    iou_threshold: float,
    box_size: int,
) -> torch.Tensor:
    expect_shape(f"{name}: boxes", boxes, ("N", box_size))
    expect_shape(f"{name}: scores", scores, (boxes.shape[0],))
    if idxs is not None:
        expect_shape(f"{name}: idxs", idxs, (boxes.shape[0],))
    if boxes.is_meta:  # how many boxes are kept depends on values; all may be
        return boxes.new_empty(boxes.shape[0], dtype=torch.int64)
    return _nms_op(boxes.detach(), scores.detach(), idxs, float(iou_threshold))


def nms(boxes: torch.Tensor, scores: torch.Tensor, iou_threshold: float) -> torch.Tensor:
    """Drop each box that overlaps a kept box of higher score by an IoU above the threshold.

    Args:
        boxes: ``(N, 4)``: x0, y0, x1, y1.
        scores: ``(N,)``; of equal scores the first comes first.
        iou_threshold: in [0, 1].

    Returns:
        ``(K,)`` int64 indices of the kept boxes, by falling score.

    Example:
        >>> boxes = torch.tensor([[0.0, 0, 10, 10], [0, 1, 10, 10], [20, 0, 30, 10]])
        >>> nms(boxes, torch.tensor([0.8, 0.9, 0.7]), 0.5)
        tensor([1, 2])
    """
    return _nms("nms", boxes, scores, None, iou_threshold, 4)


def batched_nms(
    boxes: torch.Tensor, scores: torch.Tensor, idxs: torch.Tensor, iou_threshold: float
) -> torch.Tensor:
    """Apply ``nms`` to each group of boxes by itself.

    Args:
        boxes: ``(N, 4)``: x0, y0, x1, y1.
        scores: ``(N,)``.
        idxs: ``(N,)`` integers: the group of each box, for example its class.
        iou_threshold: in [0, 1].

    Returns:
        ``(K,)`` int64 indices of the kept boxes of all groups, by falling score.
    """
    return _nms("batched_nms", boxes, scores, idxs, iou_threshold, 4)


def nms_rotated(boxes: torch.Tensor, scores: torch.Tensor, iou_threshold: float) -> torch.Tensor:
    """Apply ``nms`` to rotated boxes.

    A box and the same box turned by 180 degrees cover each other, whatever the angle means.

    Args:
        boxes: ``(N, 5)``: x and y of the centre, width, height, angle in degrees.
        scores: ``(N,)``.
        iou_threshold: in [0, 1].

    Returns:
        ``(K,)`` int64 indices of the kept boxes, by falling score.
    """
    return _nms("nms_rotated", boxes, scores, None, iou_threshold, 5)


def batched_nms_rotated(
    boxes: torch.Tensor, scores: torch.Tensor, idxs: torch.Tensor, iou_threshold: float
) -> torch.Tensor:
    """Apply ``nms_rotated`` to each group of boxes by itself.

    Args:
        boxes: ``(N, 5)``: x and y of the centre, width, height, angle in degrees.
        scores: ``(N,)``.
        idxs: ``(N,)`` integers: the group of each box.
        iou_threshold: in [0, 1].

    Returns:
        ``(K,)`` int64 indices of the kept boxes of all groups, by falling score.
    """
    return _nms("batched_nms_rotated", boxes, scores, idxs, iou_threshold, 5)
