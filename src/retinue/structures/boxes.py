"""Axis-aligned boxes, the layouts boxes are written in, and overlaps of boxes.

Shapes
    N, M boxes of one image.

Units
    Pixels. The origin is the top-left corner of the top-left pixel, so one pixel is a box of
    width 1. x grows to the right, y downwards.

Reading order: Boxes; the ``pairwise_*`` functions; BoxMode, which only data loading needs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from enum import IntEnum, unique
from numbers import Integral
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch

from retinue.utils.errors import InputError, expect_shape

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = [
    "BoxMode",
    "Boxes",
    "matched_pairwise_iou",
    "pairwise_intersection",
    "pairwise_ioa",
    "pairwise_iou",
    "pairwise_point_box_distance",
]

RawBox = TypeVar("RawBox", list[float], tuple[float, ...], np.ndarray, torch.Tensor)


@unique
class BoxMode(IntEnum):
    """How the numbers of a box are to be read; members are plain integers in JSON.

    ``XYXY_ABS``: x0, y0, x1, y1 in pixels. ``XYWH_ABS``: x0, y0, width, height in pixels.
    ``XYXY_REL``, ``XYWH_REL``: the same as fractions of the image, which nothing converts yet.
    ``XYWHA_ABS``: x and y of the centre, width, height, angle in degrees counter-clockwise.
    """

    XYXY_ABS = 0
    XYWH_ABS = 1
    XYXY_REL = 2
    XYWH_REL = 3
    XYWHA_ABS = 4

    @staticmethod
    def convert(box: RawBox, from_mode: BoxMode, to_mode: BoxMode) -> RawBox:
        """Rewrite boxes from one layout in another.

        Args:
            box: one box as a list or tuple of 4 or 5 numbers, or an array or tensor whose last
                dimension has that size. The argument stays as it is. Between ``XYXY_ABS`` and
                ``XYWH_ABS`` further numbers, such as a score, are handed through.
            from_mode: the layout of ``box``.
            to_mode: the layout wanted.

        Returns:
            The same type and dtype as ``box``. Numbers of lists and tuples are rounded to float32.

        Raises:
            InputError: If the box doesn't have the numbers its layout needs, or a mode is relative.
            NotImplementedError: For a pair of modes without a conversion.

        Example:
            >>> BoxMode.convert([5.0, 5.0, 10.0, 12.0], BoxMode.XYXY_ABS, BoxMode.XYWH_ABS)
            [5.0, 5.0, 5.0, 7.0]
        """
        if from_mode == to_mode:
            return box
        from_mode, to_mode = BoxMode(from_mode), BoxMode(to_mode)
        old = _as_tensor(box)
        width = 5 if from_mode == BoxMode.XYWHA_ABS else 4
        is_nested = isinstance(box, list | tuple) and old.dim() > 1
        num = old.shape[-1] if old.dim() else 0
        hands_on = {from_mode, to_mode} == {BoxMode.XYXY_ABS, BoxMode.XYWH_ABS}
        if is_nested or num < width or (num > width and not hands_on):
            raise InputError(
                f"BoxMode.convert: a box in {from_mode.name} has {width} numbers in its last"
                f" dimension; got shape {tuple(old.shape)}"
            )
        if {from_mode, to_mode} & {BoxMode.XYXY_REL, BoxMode.XYWH_REL}:
            raise InputError(
                f"BoxMode.convert: {from_mode.name} to {to_mode.name} needs the image size;"
                " multiply relative boxes by it first and call them absolute"
            )
        if (from_mode, to_mode) not in _CONVERSIONS:
            raise NotImplementedError(
                f"BoxMode.convert: no conversion from {from_mode.name} to {to_mode.name}; there"
                " are " + ", ".join(f"{a.name} to {b.name}" for a, b in _CONVERSIONS)
            )
        new = _CONVERSIONS[from_mode, to_mode](old[..., :width])
        new = torch.cat((new, old[..., width:]), dim=-1)
        if isinstance(box, torch.Tensor):
            return new
        return new.numpy() if isinstance(box, np.ndarray) else type(box)(new.tolist())


def _as_tensor(box: Any) -> torch.Tensor:
    if isinstance(box, torch.Tensor):
        return box
    return torch.from_numpy(box) if isinstance(box, np.ndarray) else torch.tensor(box)


def _xyxy_to_xywh(boxes: torch.Tensor) -> torch.Tensor:
    low, high = boxes.split(2, dim=-1)
    return torch.cat((low, high - low), dim=-1)


def _xywh_to_xyxy(boxes: torch.Tensor) -> torch.Tensor:
    low, size = boxes.split(2, dim=-1)
    return torch.cat((low, low + size), dim=-1)


def _xywh_to_xywha(boxes: torch.Tensor) -> torch.Tensor:
    low, size = boxes.double().split(2, dim=-1)
    angle = torch.zeros_like(low[..., :1])
    return torch.cat((low + size / 2, size, angle), dim=-1).to(boxes.dtype)


def _xywha_to_xyxy(boxes: torch.Tensor) -> torch.Tensor:
    """Enclose rotated boxes: |cos| w + |sin| h wide, |cos| h + |sin| w high."""
    center, size, angle = boxes.double().split((2, 2, 1), dim=-1)
    radians = angle * math.pi / 180
    full = radians.cos().abs() * size + radians.sin().abs() * size.flip(-1)
    low = center - full / 2
    return torch.cat((low, low + full), dim=-1).to(boxes.dtype)


_CONVERSIONS: dict[tuple[BoxMode, BoxMode], Callable[[torch.Tensor], torch.Tensor]] = {
    (BoxMode.XYXY_ABS, BoxMode.XYWH_ABS): _xyxy_to_xywh,
    (BoxMode.XYWH_ABS, BoxMode.XYXY_ABS): _xywh_to_xyxy,
    (BoxMode.XYWH_ABS, BoxMode.XYWHA_ABS): _xywh_to_xywha,
    (BoxMode.XYWHA_ABS, BoxMode.XYXY_ABS): _xywha_to_xyxy,
}


class Boxes:
    """Axis-aligned boxes of one image.

    Invariant: ``tensor`` is ``(N, 4)`` float32, whatever came in, rows ``x0, y0, x1, y1``.
    Methods return new objects, except ``clip`` and ``scale``, which change this one.

    Args:
        tensor: ``(N, 4)`` tensor, array or nested list; an empty one of any shape is no boxes.

    Raises:
        InputError: If the shape is another.

    Example:
        >>> boxes = Boxes([[0, 0, 4, 2], [1, 1, 1, 5]])
        >>> boxes.area().tolist(), boxes.nonempty().tolist()
        ([8.0, 0.0], [True, False])
    """

    _columns = 4

    def __init__(self, tensor: torch.Tensor | np.ndarray | Sequence[Sequence[float]]) -> None:
        tensor = torch.as_tensor(tensor, dtype=torch.float32)
        if tensor.numel() == 0:
            tensor = tensor.reshape(0, self._columns)
        expect_shape(f"{type(self).__name__}: tensor", tensor, ("N", self._columns))
        self.tensor = tensor

    def clone(self) -> Self:
        """Return boxes with their own memory."""
        return type(self)(self.tensor.clone())

    def to(self, device: torch.device | str | int) -> Self:
        """Return the boxes on another device; their dtype is always float32."""
        return type(self)(self.tensor.to(device=device))

    def area(self) -> torch.Tensor:
        """Return ``(N,)`` areas in square pixels."""
        x0, y0, x1, y1 = self.tensor.unbind(dim=1)
        return (x1 - x0) * (y1 - y0)

    def clip(self, box_size: tuple[int, int]) -> None:
        """Move corners that lie outside the image onto its border, in place.

        Args:
            box_size: (height, width) of the image.

        Raises:
            InputError: If a coordinate is infinite or not a number.
        """
        if not self.tensor.is_meta and not torch.isfinite(self.tensor).all():
            bad = (~torch.isfinite(self.tensor)).any(dim=1).nonzero().flatten().tolist()
            raise InputError(
                f"Boxes.clip: coordinates must be finite; {len(bad)} of {len(self)} boxes are not,"
                f" the first is {bad[0]}: {self.tensor[bad[0]].tolist()}"
            )
        height, width = box_size
        x0, y0, x1, y1 = self.tensor.unbind(dim=1)
        x0, x1 = x0.clamp(0, width), x1.clamp(0, width)
        y0, y1 = y0.clamp(0, height), y1.clamp(0, height)
        self.tensor = torch.stack((x0, y0, x1, y1), dim=1)

    def nonempty(self, threshold: float = 0.0) -> torch.Tensor:
        """Return ``(N,)`` bool: both sides are longer than ``threshold`` pixels."""
        x0, y0, x1, y1 = self.tensor.unbind(dim=1)
        return (x1 - x0 > threshold) & (y1 - y0 > threshold)

    def __getitem__(self, item: int | slice | torch.Tensor | Any) -> Self:
        """Select boxes by anything that indexes the rows of a tensor; an integer gives one box."""
        rows = self.tensor[item]
        return type(self)(rows[None] if isinstance(item, Integral) else rows)

    def __len__(self) -> int:
        return self.tensor.shape[0]

    def __iter__(self) -> Iterator[torch.Tensor]:
        """Yield each box as a tensor of shape ``(4,)``."""
        yield from self.tensor

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.tensor})"

    def inside_box(self, box_size: tuple[int, int], boundary_threshold: float = 0) -> torch.Tensor:
        """Return ``(N,)`` bool: the box lies in the image, but for a margin.

        Args:
            box_size: (height, width) of the image.
            boundary_threshold: how many pixels a box may reach over the border.
        """
        height, width = box_size
        x0, y0, x1, y1 = self.tensor.unbind(dim=1)
        starts_inside = (x0 >= -boundary_threshold) & (y0 >= -boundary_threshold)
        ends_inside = (x1 < width + boundary_threshold) & (y1 < height + boundary_threshold)
        return starts_inside & ends_inside

    def get_centers(self) -> torch.Tensor:
        """Return ``(N, 2)`` centres, x and y."""
        return (self.tensor[:, :2] + self.tensor[:, 2:]) / 2

    def scale(self, scale_x: float, scale_y: float) -> None:
        """Multiply x and y coordinates, in place."""
        self.tensor[:, 0::2] *= scale_x
        self.tensor[:, 1::2] *= scale_y

    @classmethod
    def cat(cls, boxes_list: Sequence[Self]) -> Self:
        """Join boxes into one object with its own memory; an empty list gives no boxes.

        Raises:
            InputError: If ``boxes_list`` isn't a list or tuple of such boxes.
        """
        _check_list(f"{cls.__name__}.cat", boxes_list, cls)
        if not boxes_list:
            return cls(torch.empty(0))
        return cls(torch.cat([boxes.tensor for boxes in boxes_list], dim=0))

    @property
    def device(self) -> torch.device:
        """The device of the tensor."""
        return self.tensor.device


def _check_list(where: str, items: object, kind: type, *, at_least: int = 0) -> None:
    """Check that ``items`` is a list or tuple of ``kind``."""
    if not isinstance(items, list | tuple):
        raise InputError(f"{where}: expected a list or tuple; got {type(items).__name__}")
    if len(items) < at_least:
        raise InputError(f"{where}: expected at least {at_least} {kind.__name__}; got none")
    for index, item in enumerate(items):
        if not isinstance(item, kind):
            raise InputError(
                f"{where}: element {index} must be {kind.__name__}; got {type(item).__name__}"
            )


def pairwise_intersection(boxes1: Boxes, boxes2: Boxes) -> torch.Tensor:
    """Return ``(N, M)`` areas, in square pixels, of what each box shares with each other box."""
    x0, y0, x1, y1 = boxes1.tensor[:, :, None].unbind(dim=1)  # (N, 1) each
    other_x0, other_y0, other_x1, other_y1 = boxes2.tensor.unbind(dim=1)  # (M,) each
    width = torch.minimum(x1, other_x1).sub_(torch.maximum(x0, other_x0)).clamp_(min=0)
    height = torch.minimum(y1, other_y1).sub_(torch.maximum(y0, other_y0)).clamp_(min=0)
    return width.mul_(height)


def pairwise_iou(boxes1: Boxes, boxes2: Boxes) -> torch.Tensor:
    """Return ``(N, M)`` intersections over unions, in [0, 1]; 0 where nothing is shared.

    Example:
        >>> pairwise_iou(Boxes([[0, 0, 2, 2]]), Boxes([[0, 0, 2, 2], [0, 0, 1, 2], [5, 5, 6, 6]]))
        tensor([[1.0000, 0.5000, 0.0000]])
    """
    shared = pairwise_intersection(boxes1, boxes2)
    union = boxes1.area()[:, None] + boxes2.area() - shared
    return torch.where(shared > 0, shared / union, 0)


def pairwise_ioa(boxes1: Boxes, boxes2: Boxes) -> torch.Tensor:
    """Return ``(N, M)`` intersections over the area of the box in ``boxes2``; 0 where none."""
    shared = pairwise_intersection(boxes1, boxes2)
    return torch.where(shared > 0, shared / boxes2.area(), 0)


def pairwise_point_box_distance(points: torch.Tensor, boxes: Boxes) -> torch.Tensor:
    """Measure how far points lie from the four sides of boxes.

    Args:
        points: ``(N, 2)``, x and y in pixels.
        boxes: M boxes.

    Returns:
        ``(N, M, 4)`` pixels to the left, top, right and bottom side; all positive for a point
        inside the box.
    """
    points = points[:, None]  # (N, 1, 2)
    low, high = boxes.tensor.split(2, dim=1)  # (M, 2) each
    return torch.cat((points - low, high - points), dim=2)


def matched_pairwise_iou(boxes1: Boxes, boxes2: Boxes) -> torch.Tensor:
    """Return ``(N,)``: the intersection over union of box i of one list with box i of the other.

    Raises:
        InputError: If the lists differ in length.
    """
    if len(boxes1) != len(boxes2):
        raise InputError(
            "matched_pairwise_iou: both lists must have the same number of boxes;"
            f" got {len(boxes1)} and {len(boxes2)}"
        )
    low = torch.maximum(boxes1.tensor[:, :2], boxes2.tensor[:, :2])
    high = torch.minimum(boxes1.tensor[:, 2:], boxes2.tensor[:, 2:])
    shared = (high - low).clamp(min=0).prod(dim=1)
    return shared / (boxes1.area() + boxes2.area() - shared)
