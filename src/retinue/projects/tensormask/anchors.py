"""The windows of TensorMask, and which object each should find."""

from collections.abc import Sequence

import torch

from retinue.modeling.anchor_generator import DefaultAnchorGenerator
from retinue.structures import Boxes

__all__ = ["TensorMaskAnchorGenerator", "assign_windows"]


class TensorMaskAnchorGenerator(DefaultAnchorGenerator):
    """Anchors, with the stride of each, and where in the predictions it is."""

    def grid_anchors_with_unit_lengths_and_indexes(
        self, grid_sizes: Sequence[Sequence[int]]
    ) -> tuple[list[torch.Tensor], list[torch.Tensor], list[torch.Tensor]]:
        """Make the windows of each level.

        Args:
            grid_sizes: (height, width) of each level, in cells.

        Returns:
            Per level, M windows, cell by cell, then anchor by anchor: boxes ``(M, 4)`` in pixels;
            strides ``(M,)``; int64 ``(M, 5)``: level, image (0), row, column, anchor.
        """
        anchors = self._grid_anchors(grid_sizes)
        strides, indexes = [], []
        for level, ((height, width), boxes) in enumerate(zip(grid_sizes, anchors, strict=True)):
            strides.append(boxes.new_full((len(boxes),), float(self.strides[level])))
            counts = (1, 1, height, width, len(boxes) // max(height * width, 1))
            axes = [torch.arange(count, device=boxes.device) for count in counts]
            axes[0] = axes[0] + level
            indexes.append(torch.cartesian_prod(*axes).reshape(-1, 5))
        return anchors, strides, indexes

    def forward(  # type: ignore[override]
        self, features: Sequence[torch.Tensor]
    ) -> tuple[list[list[Boxes]], list[list[torch.Tensor]], list[list[torch.Tensor]]]:
        """Make the windows for feature maps ``(N, C, H, W)``: for each image, for each level."""
        grid_sizes = [x.shape[-2:] for x in features]
        anchors, strides, indexes = self.grid_anchors_with_unit_lengths_and_indexes(grid_sizes)
        count = len(features[0])
        return [[Boxes(a) for a in anchors]] * count, [strides] * count, [indexes] * count


def assign_windows(
    gt_boxes: torch.Tensor,
    windows: torch.Tensor,
    strides: torch.Tensor,
    min_window: float,
    scale_limit: float = 2.0,
    distance_limit: float = 1.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Find the windows that hold exactly one object well.

    Section 5 of the paper: the window contains the object, is at most twice as large, and their
    centres are at most a stride apart.

    Args:
        gt_boxes: ``(G, 4)``, G at least 1, x0, y0, x1, y1 in pixels.
        windows: ``(M, 4)``.
        strides: ``(M,)``.
        min_window: side of the smallest window, a stride less; objects that are smaller than half
            of it may have it.
        scale_limit: how much larger a window may be.
        distance_limit: how far apart centres may be, in strides.

    Returns:
        ``(M,)`` int64 index of the object, and ``(M,)`` bool whether there is exactly one.
    """
    objects = gt_boxes[:, None]  # (G, 1, 4)
    low_fits = (objects[..., :2] >= windows[:, :2]).all(dim=2)
    high_fits = (objects[..., 2:] <= windows[:, 2:]).all(dim=2)

    object_size = (gt_boxes[:, 2:] - gt_boxes[:, :2]).max(dim=1).values
    largest = (object_size * scale_limit).clamp(min=min_window)  # (G,)
    window_size = (windows[:, 2:] - windows[:, :2]).max(dim=1).values - strides  # (M,)
    scale_fits = largest[:, None] - window_size >= 0

    between = (objects[..., :2] + objects[..., 2:]) / 2 - (windows[:, :2] + windows[:, 2:]) / 2
    distance = ((between / strides[:, None]) ** 2).sum(dim=2)  # (G, M), squared
    fits = low_fits & high_fits & scale_fits & (distance <= distance_limit**2)
    return fits.int().argmax(dim=0), fits.sum(dim=0) == 1
