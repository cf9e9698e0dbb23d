"""Rotated boxes of one image, and their overlaps.

A row is x and y of the centre, width, height, angle. The angle is in degrees and turns the box
counter-clockwise as seen on the screen, where y points down: with angle 90 the side called width
stands upright, its end above its start. Angles that differ by 360 mean the same box. Angles that
differ by 180 cover the same pixels, but crops of them are turned upside down.

Reading order: RotatedBoxes, which changes what the fifth number changes in Boxes; pairwise_iou.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from retinue.layers.rotated_boxes import pairwise_iou_rotated
from retinue.structures.boxes import Boxes

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["RotatedBoxes", "pairwise_iou"]


class RotatedBoxes(Boxes):
    """Rotated boxes of one image.

    Invariant: ``tensor`` is ``(N, 5)`` float32, rows ``x, y, width, height, angle`` as described
    at the top of the module. ``clip``, ``scale`` and ``normalize_angles`` change this object.

    Args:
        tensor: ``(N, 5)`` tensor, array or nested list; an empty one of any shape is no boxes.

    Raises:
        InputError: If the shape is another.
    """

    _columns = 5

    def to(self, device: torch.device | str | int, non_blocking: bool = False) -> Self:
        """Return the boxes on another device; their dtype is always float32."""
        return type(self)(self.tensor.to(device=device, non_blocking=non_blocking))

    def area(self) -> torch.Tensor:
        """Return ``(N,)`` areas in square pixels."""
        return self.tensor[:, 2] * self.tensor[:, 3]

    def normalize_angles(self) -> None:
        """Bring angles into [-180, 180) degrees, in place."""
        angle = (self.tensor[:, 4:] + 180.0) % 360.0 - 180.0
        self.tensor = torch.cat((self.tensor[:, :4], angle), dim=1)

    def clip(self, box_size: tuple[int, int], clip_angle_threshold: float = 1.0) -> None:
        """Clip boxes that are almost upright to the image, in place; leave the others.

        A turned box has no one clipped form that keeps its content, and pooling copes with boxes
        that reach over the border. Angles are normalised on the way.

        Args:
            box_size: (height, width) of the image.
            clip_angle_threshold: largest angle, in degrees, that counts as upright.
        """
        self.normalize_angles()
        center, size, angle = self.tensor.split((2, 2, 1), dim=1)
        corner = center.new_tensor((box_size[1], box_size[0]))  # x, y
        low = torch.minimum((center - size / 2).clamp(min=0), corner)
        high = torch.minimum((center + size / 2).clamp(min=0), corner)
        clipped = torch.cat(((low + high) / 2, torch.minimum(size, high - low), angle), dim=1)
        self.tensor = torch.where(angle.abs() <= clip_angle_threshold, clipped, self.tensor)

    def nonempty(self, threshold: float = 0.0) -> torch.Tensor:
        """Return ``(N,)`` bool: both sides are longer than ``threshold`` pixels."""
        return (self.tensor[:, 2:4] > threshold).all(dim=1)

    def inside_box(self, box_size: tuple[int, int], boundary_threshold: float = 0) -> torch.Tensor:
        """Return ``(N,)`` bool: the enclosing upright box lies in the image, but for a margin.

        Args:
            box_size: (height, width) of the image.
            boundary_threshold: how many pixels a box may reach over the border.
        """
        center, size, angle = self.tensor.split((2, 2, 1), dim=1)
        radians = angle * math.pi / 180.0
        half = (radians.cos().abs() * size + radians.sin().abs() * size.flip(1)) / 2.0
        enclosing = Boxes(torch.cat((center - half, center + half), dim=1))
        return enclosing.inside_box(box_size, boundary_threshold)

    def get_centers(self) -> torch.Tensor:
        """Return ``(N, 2)`` centres, x and y."""
        return self.tensor[:, :2]

    def scale(self, scale_x: float, scale_y: float) -> None:
        """Follow a resizing of the image, in place.

        Under unequal factors a turned box becomes a parallelogram. Its place takes the rectangle
        whose sides are as long as that of the parallelogram and whose angle is that of its height.
        """
        radians = self.tensor[:, 4] * math.pi / 180.0
        cos, sin = radians.cos(), radians.sin()
        self.tensor[:, 0] *= scale_x
        self.tensor[:, 1] *= scale_y
        self.tensor[:, 2] *= torch.hypot(scale_x * cos, scale_y * sin)
        self.tensor[:, 3] *= torch.hypot(scale_x * sin, scale_y * cos)
        self.tensor[:, 4] = torch.atan2(scale_x * sin, scale_y * cos) * 180 / math.pi


def pairwise_iou(boxes1: RotatedBoxes, boxes2: RotatedBoxes) -> torch.Tensor:
    """Return ``(N, M)`` intersections over unions of rotated boxes, in [0, 1]."""
    return pairwise_iou_rotated(boxes1.tensor, boxes2.tensor)
