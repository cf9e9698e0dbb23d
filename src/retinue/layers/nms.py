"""Non-maximum suppression: of boxes that overlap, keep the one with the highest score.

Shapes
    N boxes; D numbers that describe a box; K kept; E pairs of boxes that overlap too much.

Boxes are taken in the order of their scores, the first of equals first; a box is kept unless a kept
one before it overlaps it by more than the threshold. Results equal this definition exactly.

Data-parallel, in bounded memory: the boxes with the highest scores (a *head*) are settled first,
then they strike out boxes of the rest, and so on. Pairs that can overlap are found by a sweep along
x. Within a head the kept boxes are the fixpoint of ``keep = not any(keep[better] overlaps)``, which
takes as many rounds as the longest chain of suppressions.

Reading order: nms and its variants, _greedy, _settle, _sweep, _BoxOverlap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch

from retinue.layers.operators import register_operator
from retinue.layers.rotated_boxes import iou_of_rotated_pairs, upright_bounds
from retinue.utils.errors import expect_shape

__all__ = ["batched_nms", "batched_nms_rotated", "nms", "nms_rotated"]

# Boxes settled together. The number of their pairs is bounded by half its square.
_HEAD = 4096
# Boxes compared with all their candidates at a time, by device: CPUs want the cache, GPUs work.
_TILE_ROWS = {"cpu": 128}
_TILE_ROWS_ELSEWHERE = 4096

# From descriptions (D, n) of rows and (D, m) of columns to indices (E,), (E,) of pairs.
_Overlap = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


class _Candidates(NamedTuple):
    """Boxes in the order of their scores, best first, as a sweep needs them."""

    numbers: torch.Tensor  # (D, N): what _Overlap takes
    low: torch.Tensor  # (N,): where a box begins on the sweep line
    high: torch.Tensor  # (N,): where it ends; boxes that are apart on it don't overlap
    group: torch.Tensor | None  # (N,): boxes of different groups don't overlap either

    def take(self, index: torch.Tensor) -> _Candidates:
        group = None if self.group is None else self.group[index]
        return _Candidates(self.numbers[:, index], self.low[index], self.high[index], group)


def _sweep(
    rows: _Candidates, columns: _Candidates, overlap: _Overlap, *, is_same: bool
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield indices of row and column of the pairs that overlap, a tile at a time.

    Args:
        rows: boxes ordered by ``low``.
        columns: boxes ordered by ``low``.
        overlap: finds the pairs.
        is_same: rows and columns are the same boxes; only pairs with row < column are wanted.
    """
    device = rows.low.device
    height = _TILE_ROWS.get(device.type, _TILE_ROWS_ELSEWHERE)
    num_rows = rows.low.shape[0]
    begins = torch.arange(0, num_rows, height, device=device)
    tops = torch.stack([part.max() for part in rows.high.split(height)])
    stops = torch.searchsorted(columns.low, tops, right=True)
    if is_same:
        starts = begins
    else:
        starts = torch.searchsorted(columns.high.cummax(0).values, rows.low[begins])
    for begin, start, stop in torch.stack([begins, starts, stops], dim=1).tolist():
        if start >= stop:
            continue
        row, column = overlap(
            rows.numbers[:, begin : begin + height], columns.numbers[:, start:stop]
        )
        row, column = row + begin, column + start
        wanted = row < column if is_same else None
        if rows.group is not None and columns.group is not None:
            is_group = rows.group[row] == columns.group[column]
            wanted = is_group if wanted is None else wanted & is_group
        yield (row, column) if wanted is None else (row[wanted], column[wanted])


def _settle(boxes: _Candidates, overlap: _Overlap) -> torch.Tensor:
    """Return ``(N,)`` bool: which boxes greedy suppression keeps."""
    order = boxes.low.argsort(stable=True)
    sorted_boxes = boxes.take(order)
    pairs = list(_sweep(sorted_boxes, sorted_boxes, overlap, is_same=True))
    keep = torch.ones_like(order, dtype=torch.bool)
    if not pairs:
        return keep
    first, second = (order[torch.cat(side)] for side in zip(*pairs, strict=True))
    better, worse = torch.minimum(first, second), torch.maximum(first, second)
    while True:
        struck = worse[keep[better]]
        settled = torch.ones_like(keep).index_fill_(0, struck, False)
        if torch.equal(settled, keep):
            return keep
        keep = settled


def _strike(kept: _Candidates, rest: _Candidates, overlap: _Overlap) -> torch.Tensor:
    """Return ``(N,)`` bool: which boxes of the rest no kept box overlaps."""
    order, kept_order = rest.low.argsort(), kept.low.argsort()
    is_free = torch.ones_like(order, dtype=torch.bool)
    for row, _ in _sweep(rest.take(order), kept.take(kept_order), overlap, is_same=False):
        is_free[order[row]] = False
    return is_free


def _greedy(boxes: _Candidates, overlap: _Overlap) -> torch.Tensor:
    """Return ``(K,)`` int64 indices of the boxes that are kept, in order."""
    left = torch.arange(boxes.low.shape[0], device=boxes.low.device)
    kept = []
    while left.shape[0] > 0:
        head, rest = left[:_HEAD], left[_HEAD:]
        head = head[_settle(boxes.take(head), overlap)]
        kept.append(head)
        left = rest[_strike(boxes.take(head), boxes.take(rest), overlap)] if len(rest) else rest
    return torch.cat(kept) if kept else left


class _BoxOverlap:
    """Finds pairs of upright boxes with an IoU above the threshold."""

    def __init__(self, iou_threshold: float, dtype: torch.dtype) -> None:
        self.threshold = _largest_not_above(iou_threshold, dtype)

    @staticmethod
    def describe(boxes: torch.Tensor) -> torch.Tensor:
        """Return ``(5, N)``: corners and area of boxes ``(N, 4)``."""
        area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        return torch.cat([boxes.T, area[None]])

    def __call__(
        self, rows: torch.Tensor, columns: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        a, b = rows[:, :, None], columns[:, None, :]
        width = torch.minimum(a[2], b[2]).sub_(torch.maximum(a[0], b[0])).clamp_(min=0)
        height = torch.minimum(a[3], b[3]).sub_(torch.maximum(a[1], b[1])).clamp_(min=0)
        common = width.mul_(height)
        union = (a[4] + b[4]).sub_(common)
        # Equal to the quotient's comparison in double precision, which decides exact ties.
        row, column = (common.div_(union) > self.threshold).nonzero(as_tuple=True)
        return row, column


class _RotatedOverlap:
    """Finds pairs of rotated boxes with an IoU above the threshold."""

    def __init__(self, iou_threshold: float) -> None:
        self.iou_threshold = iou_threshold

    @staticmethod
    def describe(boxes: torch.Tensor) -> torch.Tensor:
        """Return ``(9, N)``: the upright bounds and the five numbers of boxes ``(N, 5)``."""
        return torch.cat([upright_bounds(boxes), boxes], dim=1).T

    def __call__(
        self, rows: torch.Tensor, columns: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        a, b = rows[:, :, None], columns[:, None, :]
        touches = (a[0] <= b[2]) & (b[0] <= a[2]) & (a[1] <= b[3]) & (b[1] <= a[3])
        row, column = touches.nonzero(as_tuple=True)
        iou = iou_of_rotated_pairs(rows[4:, row].T, columns[4:, column].T)
        is_above = iou > self.iou_threshold
        return row[is_above], column[is_above]


def _largest_not_above(value: float, dtype: torch.dtype) -> float:
    """Return the largest number of ``dtype`` that is at most ``value``."""
    rounded = torch.tensor(value, dtype=dtype)
    if rounded.item() > value:
        rounded = torch.nextafter(rounded, torch.tensor(-torch.inf, dtype=dtype))
    return rounded.item()


def _nms_kernel(
    boxes: torch.Tensor, scores: torch.Tensor, idxs: torch.Tensor | None, iou_threshold: float
) -> torch.Tensor:
    order = scores.argsort(descending=True, stable=True)
    boxes = boxes.to(torch.promote_types(boxes.dtype, torch.float32))[order]
    is_rotated = boxes.shape[1] == 5
    overlap: _BoxOverlap | _RotatedOverlap = (
        _RotatedOverlap(iou_threshold) if is_rotated else _BoxOverlap(iou_threshold, boxes.dtype)
    )
    numbers = overlap.describe(boxes)
    low, high = numbers[0].nan_to_num(), numbers[2].nan_to_num()
    if iou_threshold < 0:  # then boxes that are apart suppress each other, too
        low, high = torch.zeros_like(low), torch.zeros_like(low)
    group = None
    if idxs is not None and boxes.shape[0] > 0:
        group = idxs.unique(return_inverse=True)[1][order]
        # Groups lie side by side on the sweep line. Rounding may bring boxes closer there, which
        # costs a comparison, but never changes their order.
        shift = group * (torch.maximum(low, high).max() - low.min() + 1)
        low, high = low + shift, high + shift
    return order[_greedy(_Candidates(numbers, low, high, group), overlap)]


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
