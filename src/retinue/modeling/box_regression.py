"""Boxes as offsets from other boxes, which is what detectors regress.

Shapes
    N boxes; k boxes predicted for each, one a class or one for all; I images; R anchors of all
    levels together.

Units
    Boxes in pixels. Offsets have no unit: they are relative to the size of the source box.

Reading order: Box2BoxTransform, of which Box2BoxTransformRotated and Box2BoxTransformLinear are
variations; _dense_box_regression_loss, shared by RPN and one-stage detectors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import EllipsisType
from typing import Protocol

import torch

from retinue.layers.losses import ciou_loss, diou_loss, giou_loss, smooth_l1_loss
from retinue.structures import Boxes
from retinue.utils.errors import InputError, expect_shape, unknown_name

__all__ = ["Box2BoxTransform", "Box2BoxTransformLinear", "Box2BoxTransformRotated"]

# Growth beyond this (by 62.5) would only come from a diverging network, and overflow exp.
_DEFAULT_SCALE_CLAMP = math.log(1000.0 / 16)


class _Transform(Protocol):
    def get_deltas(self, src_boxes: torch.Tensor, target_boxes: torch.Tensor) -> torch.Tensor: ...

    def apply_deltas(self, deltas: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor: ...


def _check_pair(where: str, src_boxes: torch.Tensor, target_boxes: torch.Tensor, dim: int) -> None:
    for name, boxes in (("src_boxes", src_boxes), ("target_boxes", target_boxes)):
        if not isinstance(boxes, torch.Tensor):
            raise InputError(f"{where}: {name} must be a tensor; got {type(boxes).__name__}")
        expect_shape(f"{where}: {name}", boxes, ("N", dim))


def _check_sides(where: str, width: torch.Tensor, height: torch.Tensor) -> None:
    """Refuse source boxes without area: offsets relative to them are infinite."""
    is_flat = (width <= 0) | (height <= 0)
    if is_flat.any():
        index = int(is_flat.nonzero()[0])
        raise InputError(
            f"{where}: source boxes must have positive sides; {int(is_flat.sum())} of {len(width)}"
            f" have not, the first is box {index} with {float(width[index]):g} x"
            f" {float(height[index]):g} pixels; drop them by `boxes[boxes.nonempty()]`"
        )


def _as_precise(deltas: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    """Decode in the precision of the boxes, at least float32: half precision is pixels off.

    A float64 model decodes its float32 boxes in float32, too, and so rounds as detectron2 does.
    """
    return deltas.to(torch.promote_types(boxes.dtype, torch.float32))


class Box2BoxTransform:
    """Offsets of R-CNN: shift of the centre relative to the size, and the log of the growth.

    Girshick et al. (2014), appendix C, https://arxiv.org/abs/1311.2524.

    Args:
        weights: factors of (dx, dy, dw, dh), which bring them to about unit variance.
        scale_clamp: largest dw and dh that ``apply_deltas`` follows.

    Example:
        >>> transform = Box2BoxTransform((1.0, 1.0, 1.0, 1.0))
        >>> transform.apply_deltas(torch.tensor([[0.5, 0.0, 0.0, 0.0]]),
        ...                        torch.tensor([[0.0, 0.0, 8.0, 4.0]]))
        tensor([[ 4.,  0., 12.,  4.]])
    """

    def __init__(
        self, weights: tuple[float, float, float, float], scale_clamp: float = _DEFAULT_SCALE_CLAMP
    ) -> None:
        self.weights = weights
        self.scale_clamp = scale_clamp

    def get_deltas(self, src_boxes: torch.Tensor, target_boxes: torch.Tensor) -> torch.Tensor:
        """Express target boxes as offsets from source boxes.

        Args:
            src_boxes: ``(N, 4)``, such as anchors.
            target_boxes: ``(N, 4)``, such as the ground truth of each.

        Returns:
            ``(N, 4)`` dx, dy, dw, dh.

        Raises:
            InputError: If a source box has no area, or shapes differ.
        """
        _check_pair("Box2BoxTransform.get_deltas", src_boxes, target_boxes, 4)
        x, y, width, height = _center_and_size(src_boxes)
        target_x, target_y, target_width, target_height = _center_and_size(target_boxes)
        _check_sides("Box2BoxTransform.get_deltas", width, height)
        weight_x, weight_y, weight_w, weight_h = self.weights
        dx = weight_x * (target_x - x) / width
        dy = weight_y * (target_y - y) / height
        dw = weight_w * torch.log(target_width / width)
        dh = weight_h * torch.log(target_height / height)
        return torch.stack((dx, dy, dw, dh), dim=1)

    def apply_deltas(self, deltas: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        """Move boxes by offsets.

        Args:
            deltas: ``(N, k * 4)``.
            boxes: ``(N, 4)``, each the source of k results.

        Returns:
            ``(N, k * 4)``, of the boxes' precision, at least float32.
        """
        deltas = _as_precise(deltas, boxes)
        x, y, width, height = _center_and_size(boxes[:, None].to(deltas.dtype))  # (N, 1) each
        dx, dy, dw, dh = deltas.unflatten(1, (-1, 4)).unbind(dim=2)  # (N, k) each
        weight_x, weight_y, weight_w, weight_h = self.weights
        x = dx / weight_x * width + x
        y = dy / weight_y * height + y
        half_width = 0.5 * (torch.clamp(dw / weight_w, max=self.scale_clamp).exp() * width)
        half_height = 0.5 * (torch.clamp(dh / weight_h, max=self.scale_clamp).exp() * height)
        moved = (x - half_width, y - half_height, x + half_width, y + half_height)
        return torch.stack(moved, dim=2).flatten(1)


def _center_and_size(boxes: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Split ``(..., 4)`` boxes into x and y of the centre, width and height."""
    x0, y0, x1, y1 = boxes.unbind(dim=-1)
    width, height = x1 - x0, y1 - y0
    return x0 + 0.5 * width, y0 + 0.5 * height, width, height


class Box2BoxTransformRotated:
    """The offsets of R-CNN for rotated boxes, and the turn.

    Ma et al., "Arbitrary-Oriented Scene Text Detection via Rotation Proposals" (2018),
    https://arxiv.org/abs/1703.01086. Shifts are along the image's axes, not the box's. Angles of
    boxes are in degrees, the fifth offset is in radians.

    Args:
        weights: factors of (dx, dy, dw, dh, da).
        scale_clamp: largest dw and dh that ``apply_deltas`` follows.
    """

    def __init__(
        self,
        weights: tuple[float, float, float, float, float],
        scale_clamp: float = _DEFAULT_SCALE_CLAMP,
    ) -> None:
        self.weights = weights
        self.scale_clamp = scale_clamp

    def get_deltas(self, src_boxes: torch.Tensor, target_boxes: torch.Tensor) -> torch.Tensor:
        """Express ``(N, 5)`` target boxes as ``(N, 5)`` offsets from ``(N, 5)`` source boxes.

        Raises:
            InputError: If a source box has no area, or shapes differ.
        """
        _check_pair("Box2BoxTransformRotated.get_deltas", src_boxes, target_boxes, 5)
        x, y, width, height, angle = src_boxes.unbind(dim=1)
        target_x, target_y, target_width, target_height, target_angle = target_boxes.unbind(dim=1)
        _check_sides("Box2BoxTransformRotated.get_deltas", width, height)
        weight_x, weight_y, weight_w, weight_h, weight_a = self.weights
        dx = weight_x * (target_x - x) / width
        dy = weight_y * (target_y - y) / height
        dw = weight_w * torch.log(target_width / width)
        dh = weight_h * torch.log(target_height / height)
        da = _principal(target_angle - angle) * (weight_a * math.pi / 180.0)
        return torch.stack((dx, dy, dw, dh, da), dim=1)

    def apply_deltas(self, deltas: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        """Move ``(N, 5)`` boxes by ``(N, k * 5)`` offsets; angles come out in [-180, 180).

        Raises:
            InputError: If the shapes are others.
        """
        where = "Box2BoxTransformRotated.apply_deltas"
        expect_shape(f"{where}: boxes", boxes, (len(deltas), 5))
        if deltas.dim() != 2 or deltas.shape[1] % 5 != 0:
            raise InputError(
                f"{where}: deltas must have shape (N, k * 5); got {tuple(deltas.shape)}"
            )
        deltas = _as_precise(deltas, boxes)
        x, y, width, height, angle = boxes[:, None].to(deltas.dtype).unbind(dim=2)  # (N, 1) each
        dx, dy, dw, dh, da = deltas.unflatten(1, (-1, 5)).unbind(dim=2)  # (N, k) each
        weight_x, weight_y, weight_w, weight_h, weight_a = self.weights
        moved = (
            dx / weight_x * width + x,
            dy / weight_y * height + y,
            torch.clamp(dw / weight_w, max=self.scale_clamp).exp() * width,
            torch.clamp(dh / weight_h, max=self.scale_clamp).exp() * height,
            _principal(da / weight_a * 180.0 / math.pi + angle),
        )
        return torch.stack(moved, dim=2).flatten(1)


def _principal(degrees: torch.Tensor) -> torch.Tensor:
    """Bring angles into [-180, 180)."""
    return (degrees + 180.0) % 360.0 - 180.0


class Box2BoxTransformLinear:
    """Offsets of FCOS: distances from the centre of the source box to the sides of the target.

    Tian et al., "FCOS" (2019), section 3.1, https://arxiv.org/abs/1904.01355.

    Args:
        normalize_by_size: divide the distances by the width or height of the source box.
    """

    def __init__(self, normalize_by_size: bool = True) -> None:
        self.normalize_by_size = normalize_by_size

    def get_deltas(self, src_boxes: torch.Tensor, target_boxes: torch.Tensor) -> torch.Tensor:
        """Express ``(N, 4)`` target boxes as ``(N, 4)`` distances to the left, top, right, bottom.

        A distance is negative where the centre of the source box lies outside the target, and
        can't be undone then.

        Raises:
            InputError: If shapes differ.
        """
        _check_pair("Box2BoxTransformLinear.get_deltas", src_boxes, target_boxes, 4)
        low, high = src_boxes.split(2, dim=1)
        center = 0.5 * (low + high)
        deltas = torch.cat((center - target_boxes[:, :2], target_boxes[:, 2:] - center), dim=1)
        return deltas / (high - low).repeat(1, 2) if self.normalize_by_size else deltas

    def apply_deltas(self, deltas: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        """Put boxes around the centres of ``(N, 4)`` boxes by ``(N, k * 4)`` distances.

        Negative distances count as zero.
        """
        distances = torch.relu(deltas).unflatten(1, (-1, 4))  # (N, k, 4)
        low, high = boxes[:, None].to(deltas.dtype).split(2, dim=2)  # (N, 1, 2) each
        center = 0.5 * (low + high)
        if self.normalize_by_size:
            distances = distances * (high - low).repeat(1, 1, 2)
        return torch.cat((center - distances[..., :2], center + distances[..., 2:]), 2).flatten(1)


_OVERLAP_LOSSES = {"giou": giou_loss, "diou": diou_loss, "ciou": ciou_loss}


def _dense_box_regression_loss(
    anchors: Sequence[Boxes | torch.Tensor],
    box2box_transform: _Transform,
    pred_anchor_deltas: Sequence[torch.Tensor],
    gt_boxes: Sequence[torch.Tensor],
    fg_mask: torch.Tensor | EllipsisType,
    box_reg_loss_type: str = "smooth_l1",
    smooth_l1_beta: float = 0.0,
) -> torch.Tensor:
    """Sum the box loss over the foreground anchors of a batch.

    Args:
        anchors: of each level, the same for all images.
        box2box_transform: how offsets are meant.
        pred_anchor_deltas: of each level ``(I, anchors of the level, 4)``.
        gt_boxes: of each image ``(R, 4)``, the target of each anchor.
        fg_mask: ``(I, R)`` bool, anchors that count; ``...`` where all do.
        box_reg_loss_type: ``"smooth_l1"`` on offsets; ``"giou"``, ``"diou"``, ``"ciou"`` on boxes.
        smooth_l1_beta: where smooth L1 turns from square to line; 0 is L1.

    Raises:
        UnknownNameError: (a ``ValueError``) for another loss.
    """
    if box_reg_loss_type not in (known := ["smooth_l1", *_OVERLAP_LOSSES]):
        raise unknown_name("box regression loss", box_reg_loss_type, known)
    all_anchors = torch.cat([a.tensor if isinstance(a, Boxes) else a for a in anchors])  # (R, 4)
    if fg_mask is ...:
        fg_mask = all_anchors.new_ones(len(gt_boxes), len(all_anchors), dtype=torch.bool)
    image, anchor = fg_mask.nonzero(as_tuple=True)  # (F,) each; only the foreground is computed
    sources = all_anchors[anchor]
    targets = torch.stack(list(gt_boxes))[image, anchor]
    deltas = torch.cat(list(pred_anchor_deltas), dim=1)[image, anchor]
    if box_reg_loss_type == "smooth_l1":
        target_deltas = box2box_transform.get_deltas(sources, targets)
        return smooth_l1_loss(deltas, target_deltas, beta=smooth_l1_beta, reduction="sum")
    boxes = box2box_transform.apply_deltas(deltas, sources)
    return _OVERLAP_LOSSES[box_reg_loss_type](boxes, targets, reduction="sum")
