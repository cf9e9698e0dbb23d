"""Pooling of region features from a feature pyramid.

Shapes
    I images; R regions, all images together; C channels; H, W rows and columns at one level;
    P rows and columns of a pooled region, in cells.

Units
    Boxes are in pixels of the network input. Level k has stride 2**k.

Reading order: assign_boxes_to_levels picks a level for each box; ROIPooler.forward crops each box
from its level and returns the crops in the order the boxes came in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import nn

from retinue.layers.roi_align import ROIAlign, roi_align_levels
from retinue.layers.roi_align_rotated import ROIAlignRotated, roi_align_rotated_levels
from retinue.layers.roi_pool import ROIPool
from retinue.structures import Boxes
from retinue.utils.errors import InputError, unknown_name

__all__ = ["ROIPooler", "assign_boxes_to_levels", "convert_boxes_to_pooler_format"]


def assign_boxes_to_levels(
    box_lists: Sequence[Boxes],
    min_level: int,
    max_level: int,
    canonical_box_size: float,
    canonical_level: int,
) -> torch.Tensor:
    """Choose the pyramid level that each box is pooled from.

    A box of side ``canonical_box_size`` goes to ``canonical_level``, one of twice that side a level
    up: ``k = floor(k0 + log2(sqrt(w * h) / 224))``, clamped to the pyramid. This is eq. 1 of
    Lin et al., "Feature Pyramid Networks" (2017), https://arxiv.org/abs/1612.03144.

    Args:
        box_lists: the boxes of each image.
        min_level: finest level; level ``k`` has stride ``2**k``.
        max_level: coarsest level.
        canonical_box_size: side, in pixels, of a box that belongs to ``canonical_level``.
        canonical_level: that level.

    Returns:
        ``(R,)`` int64 in [0, max_level - min_level], counted from ``min_level``.

    Example:
        >>> boxes = Boxes([[0.0, 0.0, 100.0, 100.0], [0.0, 0.0, 224.0, 224.0]])
        >>> assign_boxes_to_levels([boxes], 2, 5, 224, 4)
        tensor([0, 2])
    """
    side = torch.cat([boxes.area() for boxes in box_lists]).clamp(min=0).sqrt()
    # 1e-8 keeps log2 finite for an empty box, which then clamps to the finest level.
    level = torch.floor(canonical_level + torch.log2(side / canonical_box_size + 1e-8))
    return level.clamp(min_level, max_level).long() - min_level


def convert_boxes_to_pooler_format(box_lists: Sequence[Boxes]) -> torch.Tensor:
    """Put the boxes of a batch into one table.

    Returns:
        ``(R, 5)``, or ``(R, 6)`` for rotated boxes: index of the image, then the box.
    """
    tensors = [boxes.tensor for boxes in box_lists]  # curves of other projects, too
    image = [tensor.new_full((len(tensor), 1), i) for i, tensor in enumerate(tensors)]
    return torch.cat((torch.cat(image), torch.cat(tensors)), dim=1)


def _pooler_of_level(
    pooler_type: str, output_size: tuple[int, int], sampling_ratio: int
) -> Callable[[float], nn.Module]:
    """Return what makes the pooling of one level from its scale."""
    makers: dict[str, Callable[[float], nn.Module]] = {
        "ROIAlign": lambda scale: ROIAlign(output_size, scale, sampling_ratio, aligned=False),
        "ROIAlignV2": lambda scale: ROIAlign(output_size, scale, sampling_ratio, aligned=True),
        "ROIAlignRotated": lambda scale: ROIAlignRotated(output_size, scale, sampling_ratio),
        "ROIPool": lambda scale: ROIPool(output_size, scale),
    }
    if pooler_type not in makers:
        raise unknown_name("pooler type", pooler_type, makers)
    return makers[pooler_type]


class ROIPooler(nn.Module):
    """Crop the features of each box from the pyramid level that fits its size.

    Args:
        output_size: rows and columns of a crop, or one number for both.
        scales: of each level, finest first: cells a pixel, 1 / stride. Each must be half of the
            one before, the first a power of 2.
        sampling_ratio: samples a cell and axis; 0 takes as many as the cell has positions.
        pooler_type: ``"ROIAlignV2"`` (right to the pixel), ``"ROIAlign"`` (half a pixel off, for
            old models), ``"ROIPool"`` or ``"ROIAlignRotated"``.
        canonical_box_size: side, in pixels, of a box that belongs to ``canonical_level``.
        canonical_level: that level.

    Raises:
        InputError: If sizes are no whole numbers or scales form no pyramid.
        UnknownNameError: (a ``ValueError``) for another ``pooler_type``.
    """

    def __init__(
        self,
        output_size: int | Sequence[int],
        scales: Sequence[float],
        sampling_ratio: int,
        pooler_type: str,
        canonical_box_size: float = 224,
        canonical_level: int = 4,
    ) -> None:
        super().__init__()
        sides = (output_size,) * 2 if isinstance(output_size, int) else tuple(output_size)
        if len(sides) != 2 or not all(isinstance(side, int) for side in sides):
            raise InputError(
                f"ROIPooler: output_size must be one or two whole numbers; got {output_size!r}"
            )
        self.output_size = sides
        self.min_level, self.max_level = _check_pyramid(scales)
        if canonical_box_size <= 0:
            raise InputError(
                f"ROIPooler: canonical_box_size must be positive; got {canonical_box_size}"
            )
        self.canonical_box_size = canonical_box_size
        self.canonical_level = canonical_level
        pooler = _pooler_of_level(pooler_type, sides, sampling_ratio)
        self.level_poolers = nn.ModuleList(pooler(scale) for scale in scales)

    def forward(self, x: Sequence[torch.Tensor], box_lists: Sequence[Boxes]) -> torch.Tensor:
        """Pool all boxes of a batch.

        Args:
            x: of each level ``(I, C, H, W)``.
            box_lists: the boxes of each image, ``Boxes`` or ``RotatedBoxes``.

        Returns:
            ``(R, C, P, P)`` in the order of the boxes.

        Raises:
            InputError: If levels or images don't match.
        """
        self._check_inputs(x, box_lists)
        if len(box_lists) == 0:
            return x[0].new_zeros(0, x[0].shape[1], *self.output_size)
        rois = convert_boxes_to_pooler_format(box_lists)  # (R, 5 or 6)
        if len(self.level_poolers) == 1:
            crops: torch.Tensor = self.level_poolers[0](x[0], rois)
            return crops
        level = assign_boxes_to_levels(
            box_lists, self.min_level, self.max_level, self.canonical_box_size, self.canonical_level
        )
        return self._pool_levels(x, rois, level)

    def _pool_levels(
        self, x: Sequence[torch.Tensor], rois: torch.Tensor, level: torch.Tensor
    ) -> torch.Tensor:
        """Pool each region from its level, all levels in one product where the operator can."""
        first = self.level_poolers[0]
        if isinstance(first, ROIAlign | ROIAlignRotated):
            scales = [float(pooler.spatial_scale) for pooler in self.level_poolers]  # type: ignore[arg-type]
            if isinstance(first, ROIAlignRotated):
                return roi_align_rotated_levels(
                    x, rois, level, self.output_size, scales, first.sampling_ratio
                )
            return roi_align_levels(
                x, rois, level, self.output_size, scales, first.sampling_ratio, first.aligned
            )
        crops = x[0].new_zeros(len(rois), x[0].shape[1], *self.output_size)
        for index, (features, pooler) in enumerate(zip(x, self.level_poolers, strict=True)):
            chosen = (level == index).nonzero().flatten()
            crops.index_put_((chosen,), pooler(features, rois[chosen]))
        return crops

    def _check_inputs(self, x: Sequence[torch.Tensor], box_lists: Sequence[Boxes]) -> None:
        for name, items in (("x", x), ("box_lists", box_lists)):
            if not isinstance(items, list | tuple):
                raise InputError(f"ROIPooler: {name} must be a list; got {type(items).__name__}")
        if len(x) != len(self.level_poolers):
            raise InputError(
                f"ROIPooler: it was made for {len(self.level_poolers)} feature levels;"
                f" got {len(x)} feature maps"
            )
        if len(box_lists) != len(x[0]):
            raise InputError(
                f"ROIPooler: features are of {len(x[0])} images; got boxes of {len(box_lists)}"
            )


def _check_pyramid(scales: Sequence[float]) -> tuple[int, int]:
    """Return the finest and the coarsest level of scales that halve from one to the next."""
    levels = [-math.log2(scale) for scale in scales]
    if not levels or not all(math.isclose(k, round(k), abs_tol=1e-9) for k in levels):
        raise InputError(f"ROIPooler: scales must be powers of 2, at least one; got {list(scales)}")
    first = round(levels[0])
    if first < 0 or [round(k) for k in levels] != list(range(first, first + len(levels))):
        raise InputError(
            "ROIPooler: each scale must be half of the one before, and the first at most 1;"
            f" got {list(scales)}"
        )
    return first, round(levels[-1])
