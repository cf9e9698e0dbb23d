"""Non-maximum suppression: of boxes that overlap, keep the one with the highest score.

Shapes
    N boxes; D numbers that describe a box; K kept.

Boxes are taken in the order of their scores, the first of equals first; a box is kept unless a kept
one before it overlaps it by more than the threshold. Results equal this definition exactly.
greedy.py does the selection; here is what overlapping means.

Reading order: nms and its variants, _nms_kernel, _BoxOverlap, _RotatedOverlap.
"""

from __future__ import annotations

import torch

from retinue.layers.greedy import select
from retinue.layers.operators import register_operator
from retinue.layers.rotated_boxes import iou_of_rotated_pairs, upright_bounds
from retinue.utils.errors import expect_shape

__all__ = ["batched_nms", "batched_nms_rotated", "nms", "nms_rotated"]


class _BoxOverlap:
    """Tells which upright boxes have an IoU above the threshold."""

    def __init__(self, iou_threshold: float, dtype: torch.dtype) -> None:
        # The largest number of the boxes' dtype that isn't above the threshold: comparing with it
        # is comparing in double precision, which decides exact ties.
        rounded = torch.tensor(iou_threshold, dtype=dtype)
        if rounded.item() > iou_threshold:
            rounded = torch.nextafter(rounded, torch.full_like(rounded, -torch.inf))
        self.threshold = rounded.item()

    @staticmethod
    def describe(boxes: torch.Tensor) -> torch.Tensor:
        """Return ``(5, N)``: corners and area of boxes ``(N, 4)``."""
        area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        return torch.cat([boxes.T, area[None]])

    def __call__(self, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        """Compare descriptions ``(5, n)`` and ``(5, m)``: ``(n, m)`` bool."""
        a, b = rows[:, :, None], columns[:, None, :]
        width = torch.minimum(a[2], b[2]).sub_(torch.maximum(a[0], b[0])).clamp_(min=0)
        height = torch.minimum(a[3], b[3]).sub_(torch.maximum(a[1], b[1])).clamp_(min=0)
        common = width.mul_(height)
        iou = common.div_((a[4] + b[4]).sub_(common))
        if iou.device.type == "cpu":  # where numpy compares eight times as fast
            return torch.from_numpy(iou.numpy() > self.threshold)
        return iou > self.threshold


class _RotatedOverlap:
    """Tells which rotated boxes have an IoU above the threshold."""

    def __init__(self, iou_threshold: float) -> None:
        self.threshold = iou_threshold

    @staticmethod
    def describe(boxes: torch.Tensor) -> torch.Tensor:
        """Return ``(9, N)``: the upright bounds and the five numbers of boxes ``(N, 5)``."""
        return torch.cat([upright_bounds(boxes), boxes], dim=1).T.contiguous()

    def __call__(self, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        """Compare descriptions ``(9, n)`` and ``(9, m)``: ``(n, m)`` bool."""
        a, b = rows[:, :, None], columns[:, None, :]
        is_above = (a[0] <= b[2]) & (b[0] <= a[2]) & (a[1] <= b[3]) & (b[1] <= a[3])
        if self.threshold < 0:
            is_above = torch.ones_like(is_above)
        row, column = is_above.nonzero(as_tuple=True)
        iou = iou_of_rotated_pairs(rows[4:, row].T, columns[4:, column].T)
        is_above[row, column] = iou > self.threshold
        return is_above


def _nms_kernel(
    boxes: torch.Tensor, scores: torch.Tensor, idxs: torch.Tensor | None, iou_threshold: float
) -> torch.Tensor:
    order = scores.argsort(descending=True, stable=True)
    boxes = boxes.to(torch.promote_types(boxes.dtype, torch.float32))[order]
    is_rotated = boxes.shape[1] == 5
    overlap: _BoxOverlap | _RotatedOverlap = (
        _RotatedOverlap(iou_threshold) if is_rotated else _BoxOverlap(iou_threshold, boxes.dtype)
    )
    group = None if idxs is None else idxs[order]
    return order[select(overlap.describe(boxes), group, overlap)]


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
