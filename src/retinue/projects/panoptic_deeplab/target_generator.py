"""What Panoptic-DeepLab learns from, made of a panoptic map."""

from collections.abc import Collection, Iterable
from typing import Any

import numpy as np
import torch

__all__ = ["PanopticDeepLabTargetGenerator"]


class PanopticDeepLabTargetGenerator:
    """Makes a heat map of centres, offsets to them, labels, and a weight for each pixel of these.

    Args:
        ignore_label: label of pixels in no segment.
        thing_ids: classes of things.
        sigma: of the Gaussian bump at each centre, in pixels.
        ignore_stuff_in_offset: give offsets of stuff no weight.
        small_instance_area: instances of fewer pixels are small.
        small_instance_weight: weight of their pixels in the loss of labels.
        ignore_crowd_in_semantic: leave crowds out of the labels, too.
    """

    def __init__(
        self,
        ignore_label: int,
        thing_ids: Collection[int],
        sigma: int = 8,
        ignore_stuff_in_offset: bool = False,
        small_instance_area: int = 0,
        small_instance_weight: float = 1,
        ignore_crowd_in_semantic: bool = False,
    ) -> None:
        self.ignore_label = ignore_label
        self.thing_ids = set(thing_ids)
        self.sigma = sigma
        self.ignore_stuff_in_offset = ignore_stuff_in_offset
        self.small_instance_area = small_instance_area
        self.small_instance_weight = small_instance_weight
        self.ignore_crowd_in_semantic = ignore_crowd_in_semantic
        steps = np.arange(-3 * sigma - 1, 3 * sigma + 2)
        bump = np.exp(-(steps**2) / (2 * sigma**2))
        self.g = np.outer(bump, bump)  # a square of side 6 sigma + 3

    def __call__(
        self, panoptic: np.ndarray, segments_info: Iterable[dict[str, Any]]
    ) -> dict[str, Any]:
        """Make the targets of one image.

        Args:
            panoptic: ``(H, W)`` ids of segments.
            segments_info: ``id``, ``category_id`` and ``iscrowd`` of each segment.

        Returns:
            ``sem_seg`` ``(H, W)`` int64 labels, ``center`` ``(H, W)``, ``offset`` ``(2, H, W)``, y
            first, in pixels; float32 weights ``sem_seg_weights`` ``(H, W)``, ``center_weights`` and
            ``offset_weights`` ``(1, H, W)``, 0 where there is nothing to learn; and
            ``center_points``, a list of [y, x].
        """
        height, width = panoptic.shape
        labels = np.full((height, width), self.ignore_label, dtype=np.int64)
        center = np.zeros((height, width), dtype=np.float32)
        offset = np.zeros((2, height, width), dtype=np.float32)
        label_weights = np.ones((height, width), dtype=np.float32)
        center_weights = np.zeros((1, height, width), dtype=np.float32)
        offset_weights = np.zeros((1, height, width), dtype=np.float32)
        center_points = []
        for segment in segments_info:
            label, is_crowd = segment["category_id"], bool(segment["iscrowd"])
            is_thing = label in self.thing_ids
            inside = panoptic == segment["id"]
            if not (is_crowd and self.ignore_crowd_in_semantic):
                labels[inside] = label
            if not is_crowd:
                center_weights[0, inside] = 1
                if is_thing or not self.ignore_stuff_in_offset:
                    offset_weights[0, inside] = 1
            ys, xs = np.nonzero(inside)
            if not is_thing or not len(ys):  # cut away by a crop
                continue
            if len(ys) < self.small_instance_area:
                label_weights[inside] = self.small_instance_weight
            y, x = ys.mean(), xs.mean()
            center_points.append([y, x])
            self._draw_center(center, round(y), round(x))
            offset[:, ys, xs] = y - ys, x - xs
        return {
            "sem_seg": torch.from_numpy(labels),
            "center": torch.from_numpy(center),
            "center_points": center_points,
            "offset": torch.from_numpy(offset),
            "sem_seg_weights": torch.from_numpy(label_weights),
            "center_weights": torch.from_numpy(center_weights),
            "offset_weights": torch.from_numpy(offset_weights),
        }

    def _draw_center(self, heatmap: np.ndarray, y: int, x: int) -> None:
        """Raise ``(H, W)`` to the bump around (y, x), in place."""
        reach = 3 * self.sigma + 1
        height, width = heatmap.shape
        top, bottom = max(y - reach, 0), min(y + reach + 1, height)
        left, right = max(x - reach, 0), min(x + reach + 1, width)
        bump = self.g[top - y + reach : bottom - y + reach, left - x + reach : right - x + reach]
        part = heatmap[top:bottom, left:right]
        np.maximum(part, bump, out=part, casting="same_kind")
