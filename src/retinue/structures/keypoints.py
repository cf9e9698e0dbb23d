"""Keypoints of the objects of one image, and their heat maps.

Shapes
    N instances or boxes; K keypoints an instance; S side of a heat map, in cells.

Units
    x and y in pixels, continuous: cell d of a heat map covers [d, d + 1) and its centre is
    d + 0.5, after Heckbert, "What are the coordinates of a pixel?" (Graphics Gems, 1990).

Reading order: Keypoints.to_heatmap writes annotations as cells, the targets of a keypoint head;
heatmaps_to_keypoints reads positions off predicted maps.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from retinue.structures.boxes import _check_list
from retinue.utils.errors import expect_shape

__all__ = ["Keypoints", "heatmaps_to_keypoints"]


class Keypoints:
    """Annotated keypoints of one image.

    Invariant: ``tensor`` is ``(N, K, 3)`` float32, rows x, y, visibility. Visibility is COCO's: 0
    not labelled (x and y are 0 then), 1 labelled but hidden, 2 visible.

    Args:
        keypoints: ``(N, K, 3)`` tensor, array or nested list.

    Raises:
        InputError: If the shape is another.
    """

    def __init__(self, keypoints: torch.Tensor | np.ndarray | Sequence[Any]) -> None:
        tensor = torch.as_tensor(keypoints, dtype=torch.float32)
        expect_shape("Keypoints: keypoints", tensor, ("N", "K", 3))
        self.tensor = tensor

    def __len__(self) -> int:
        return self.tensor.shape[0]

    def to(self, *args: Any, **kwargs: Any) -> Keypoints:
        """Move the keypoints; arguments as for ``torch.Tensor.to``."""
        return type(self)(self.tensor.to(*args, **kwargs))

    @property
    def device(self) -> torch.device:
        """The device of the tensor."""
        return self.tensor.device

    def to_heatmap(
        self, boxes: torch.Tensor, heatmap_size: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Find the cell of a square heat map over each box in which each keypoint lies.

        Keypoints on the right or lower side of the box belong to the last cell. This is the target
        of He et al., "Mask R-CNN" (2017), section 5, https://arxiv.org/abs/1703.06870.

        Args:
            boxes: ``(N, 4)``, ``x0, y0, x1, y1``, box i for instance i.
            heatmap_size: S.

        Returns:
            ``(N, K)`` int64 cells ``row * S + column`` in [0, S * S), 0 where not valid, and
            ``(N, K)`` int64, 1 where the keypoint is labelled and lies in the box.
        """
        expect_shape("Keypoints.to_heatmap: boxes", boxes, (len(self), 4))
        low, high = boxes[:, None].split(2, dim=2)  # (N, 1, 2) each, x and y
        point, is_labelled = self.tensor[..., :2], self.tensor[..., 2] > 0
        cell = ((point - low) * (heatmap_size / (high - low))).floor().long()
        cell = torch.where(point == high, heatmap_size - 1, cell)  # (N, K, 2)
        is_inside = ((cell >= 0) & (cell < heatmap_size)).all(dim=2)
        valid = (is_inside & is_labelled).long()
        return (cell[..., 1] * heatmap_size + cell[..., 0]) * valid, valid

    def __getitem__(self, item: int | slice | torch.Tensor | Any) -> Keypoints:
        """Select instances by an integer, a slice, indices or a bool mask of length N."""
        rows = self.tensor[item]
        return type(self)(rows[None] if isinstance(item, Integral) else rows)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(num_instances={len(self)})"

    @staticmethod
    def cat(keypoints_list: Sequence[Keypoints]) -> Keypoints:
        """Join keypoints into one object.

        Raises:
            InputError: If ``keypoints_list`` isn't a list or tuple of keypoints, or is empty.
        """
        _check_list("Keypoints.cat", keypoints_list, Keypoints, at_least=1)
        return type(keypoints_list[0])(torch.cat([k.tensor for k in keypoints_list], dim=0))


def heatmaps_to_keypoints(maps: torch.Tensor, rois: torch.Tensor) -> torch.Tensor:
    """Read the most likely position of each keypoint off predicted heat maps.

    Each map is resized (bicubic) to the size of its box in whole pixels; the position is the
    centre of the highest pixel.

    Args:
        maps: ``(N, K, S, S)`` logits.
        rois: ``(N, 4)`` boxes, ``x0, y0, x1, y1``; sides below one pixel count as one.

    Returns:
        ``(N, K, 4)``: x, y, logit there, and its probability by a softmax whose normaliser is that
        of the S x S map, so that objects of different sizes compare.
    """
    expect_shape("heatmaps_to_keypoints: maps", maps, ("N", "K", "S", "S"))
    expect_shape("heatmaps_to_keypoints: rois", rois, (len(maps), 4))
    size = (rois[:, 2:] - rois[:, :2]).clamp(min=1)  # (N, 2), x and y
    whole = size.ceil()
    found = maps.new_zeros(*maps.shape[:2], 4)
    # A loop, as every box has its own size. Peaks first, so that nothing else is full-sized.
    for row, logits, (width, height) in zip(found, maps, whole.long().tolist(), strict=True):
        full = F.interpolate(logits[None], size=(height, width), mode="bicubic")[0]
        peak, position = full.flatten(1).max(dim=1)  # (K,) each
        row[:, 0] = position % width
        row[:, 1] = position // width
        row[:, 2] = peak
        row[:, 3] = 1 / (logits - peak[:, None, None]).exp().sum(dim=(1, 2))
    found[..., :2] = (found[..., :2] + 0.5) * (size / whole)[:, None] + rois[:, None, :2]
    return found
