"""What the losses share: annotated points of all regions in one table, read off predictions.

Shapes
    R regions, all images together; N of them with DensePose annotations; K annotated points.

Units
    A point's x and y are relative to its object's box, from 0 to 256. Boxes are x, y, width,
    height in pixels.

Reading order: the accumulator collects the points of each region; BilinearInterpolationHelper
says where they lie in the predictions, and reads these there.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F

from retinue.structures import BoxMode, Instances
from retinue.utils.errors import InputError

__all__ = [
    "AnnotationsAccumulator",
    "BilinearInterpolationHelper",
    "ChartBasedAnnotationsAccumulator",
    "LossDict",
    "PackedChartBasedAnnotations",
    "extract_packed_annotations_from_matches",
    "resample_data",
    "sample_random_indices",
]

LossDict = dict[str, torch.Tensor]
FULL_SIZE = 256.0  # relative coordinates of the far corner of a box


@dataclass
class _Axis:
    """Where points lie along one axis of the predictions."""

    low: torch.Tensor  # (K,) int64, the cell before
    high: torch.Tensor  # (K,) int64, the cell after
    weight: torch.Tensor  # (K,) of the cell after
    inside: torch.Tensor  # (K,) bool, within the predicted box

    @staticmethod
    def locate(
        relative: torch.Tensor,
        start_gt: torch.Tensor,
        size_gt: torch.Tensor,
        start_est: torch.Tensor,
        size_est: torch.Tensor,
        num_cells: int,
    ) -> _Axis:
        offset = start_gt + relative * size_gt / FULL_SIZE - start_est  # in the predicted box
        cell = offset * num_cells / size_est
        low = cell.floor().long().clamp(0, num_cells - 1)
        high = (low + 1).clamp(max=num_cells - 1)
        weight = torch.minimum(high.to(cell.dtype), cell) - low
        return _Axis(low, high, weight, (offset >= 0) & (offset < size_est))


class BilinearInterpolationHelper:
    """Reads ``(R, C, H, W)`` predictions at the K annotated points.

    Args:
        packed_annotations: like :class:`PackedChartBasedAnnotations`.
        j_valid: ``(K,)`` bool, True for points within their region.
        y_lo: ``(K,)`` int64, row before the point; the others likewise.
        y_hi: row after.
        x_lo: column before.
        x_hi: column after.
        w_ylo_xlo: ``(K,)``, weight of the cell at ``y_lo``, ``x_lo``; the others likewise.
        w_ylo_xhi: of ``y_lo``, ``x_hi``.
        w_yhi_xlo: of ``y_hi``, ``x_lo``.
        w_yhi_xhi: of ``y_hi``, ``x_hi``.
    """

    def __init__(
        self,
        packed_annotations: Any,
        j_valid: torch.Tensor,
        y_lo: torch.Tensor,
        y_hi: torch.Tensor,
        x_lo: torch.Tensor,
        x_hi: torch.Tensor,
        w_ylo_xlo: torch.Tensor,
        w_ylo_xhi: torch.Tensor,
        w_yhi_xlo: torch.Tensor,
        w_yhi_xhi: torch.Tensor,
    ) -> None:
        self.packed_annotations = packed_annotations
        self.j_valid = j_valid
        self.y_lo, self.y_hi, self.x_lo, self.x_hi = y_lo, y_hi, x_lo, x_hi
        self.w_ylo_xlo, self.w_ylo_xhi = w_ylo_xlo, w_ylo_xhi
        self.w_yhi_xlo, self.w_yhi_xhi = w_yhi_xlo, w_yhi_xhi

    @staticmethod
    def from_matches(
        packed_annotations: Any, densepose_outputs_size_hw: tuple[int, int]
    ) -> BilinearInterpolationHelper:
        """Locate the annotated points in predictions of a size (height, width)."""
        height, width = densepose_outputs_size_hw
        boxes = packed_annotations.point_bbox_with_dp_indices
        x0, y0, w, h = packed_annotations.bbox_xywh_gt[boxes].unbind(dim=1)
        x0_est, y0_est, w_est, h_est = packed_annotations.bbox_xywh_est[boxes].unbind(dim=1)
        x = _Axis.locate(packed_annotations.x_gt, x0, w, x0_est, w_est, width)
        y = _Axis.locate(packed_annotations.y_gt, y0, h, y0_est, h_est, height)
        return BilinearInterpolationHelper(
            packed_annotations,
            x.inside & y.inside,
            y.low,
            y.high,
            x.low,
            x.high,
            (1 - x.weight) * (1 - y.weight),
            x.weight * (1 - y.weight),
            (1 - x.weight) * y.weight,
            x.weight * y.weight,
        )

    def extract_at_points(
        self,
        z_est: torch.Tensor,
        slice_fine_segm: Any = None,
        w_ylo_xlo: torch.Tensor | None = None,
        w_ylo_xhi: torch.Tensor | None = None,
        w_yhi_xlo: torch.Tensor | None = None,
        w_yhi_xhi: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Interpolate predictions at the points.

        Args:
            z_est: ``(R, C, H, W)``.
            slice_fine_segm: which channel of each point, ``(K,)``, by default its chart; or
                ``slice(None)`` for all.
            w_ylo_xlo: weights in place of its own; with all channels, they must have a second
                dimension, see :meth:`extract_all_channels`.
            w_ylo_xhi: likewise.
            w_yhi_xlo: likewise.
            w_yhi_xhi: likewise.

        Returns:
            ``(K,)``, or ``(K, C)`` for all channels.
        """
        region = self.packed_annotations.point_bbox_indices
        channel = slice_fine_segm
        if channel is None:
            channel = self.packed_annotations.fine_segm_labels_gt
        corners = (
            (self.y_lo, self.x_lo, self.w_ylo_xlo if w_ylo_xlo is None else w_ylo_xlo),
            (self.y_lo, self.x_hi, self.w_ylo_xhi if w_ylo_xhi is None else w_ylo_xhi),
            (self.y_hi, self.x_lo, self.w_yhi_xlo if w_yhi_xlo is None else w_yhi_xlo),
            (self.y_hi, self.x_hi, self.w_yhi_xhi if w_yhi_xhi is None else w_yhi_xhi),
        )
        parts = [z_est[region, channel, y, x] * weight for y, x, weight in corners]
        return torch.stack(parts).sum(dim=0)

    def extract_all_channels(self, z_est: torch.Tensor) -> torch.Tensor:
        """Interpolate all channels of ``(R, C, H, W)`` at the points: ``(K, C)``."""
        weights = (self.w_ylo_xlo, self.w_ylo_xhi, self.w_yhi_xlo, self.w_yhi_xhi)
        return self.extract_at_points(z_est, slice(None), *(w[:, None] for w in weights))


def resample_data(
    z: torch.Tensor,
    bbox_xywh_src: torch.Tensor,
    bbox_xywh_dst: torch.Tensor,
    wout: int,
    hout: int,
    mode: str = "nearest",
    padding_mode: str = "zeros",
) -> torch.Tensor:
    """Take what is known on boxes over to other boxes.

    Args:
        z: ``(N, C, H, W)``, corners of the grid at the corners of ``bbox_xywh_src``.
        bbox_xywh_src: ``(N, 4)``.
        bbox_xywh_dst: ``(N, 4)``.
        wout: columns wanted.
        hout: rows wanted.
        mode: as ``grid_sample`` takes it.
        padding_mode: likewise.

    Returns:
        ``(N, C, hout, wout)``; cell i of n is read at the fraction i / n of the box.

    Raises:
        InputError: If there are not as many boxes of one kind as of the other.
    """
    if len(bbox_xywh_src) != len(bbox_xywh_dst):
        raise InputError(
            "resample_data: each box to read from needs one to read for; got"
            f" {len(bbox_xywh_src)} and {len(bbox_xywh_dst)}"
        )
    start_src, size_src = bbox_xywh_src.split(2, dim=1)
    start_dst, size_dst = bbox_xywh_dst.split(2, dim=1)
    first = 2 * (start_dst - start_src) / size_src - 1  # (N, 2) in [-1, 1] of the source
    step = 2 * size_dst / size_src
    x = torch.arange(wout, device=z.device) / wout
    y = torch.arange(hout, device=z.device) / hout
    fractions = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=2)  # (hout, wout, 2)
    grid = first[:, None, None] + fractions * step[:, None, None]
    return F.grid_sample(
        z, grid.to(z.dtype), mode=mode, padding_mode=padding_mode, align_corners=True
    )


class AnnotationsAccumulator(ABC):
    """Collects annotations image by image."""

    @abstractmethod
    def accumulate(self, instances_one_image: Instances) -> None:
        """Add the annotations of an image's regions."""

    @abstractmethod
    def pack(self) -> Any:
        """Return all annotations as tensors; None if there are none."""


@dataclass
class PackedChartBasedAnnotations:
    """Annotated points of all regions.

    Attributes:
        fine_segm_labels_gt: ``(K,)`` int64, chart of each point; 0 is background.
        x_gt: ``(K,)``, relative to the object's box, 0 to 256.
        y_gt: likewise.
        u_gt: ``(K,)`` in [0, 1], coordinate in the chart.
        v_gt: likewise.
        coarse_segm_gt: ``(N, 256, 256)`` labels on the object's box; None if an object lacks them.
        bbox_xywh_gt: ``(N, 4)``, the object's box.
        bbox_xywh_est: ``(N, 4)``, the region's box.
        point_bbox_with_dp_indices: ``(K,)`` int64, which of the N a point belongs to.
        point_bbox_indices: ``(K,)`` int64, which of the R.
        bbox_indices: ``(N,)`` int64, which of the R has these annotations.
    """

    fine_segm_labels_gt: torch.Tensor
    x_gt: torch.Tensor
    y_gt: torch.Tensor
    u_gt: torch.Tensor
    v_gt: torch.Tensor
    coarse_segm_gt: torch.Tensor | None
    bbox_xywh_gt: torch.Tensor
    bbox_xywh_est: torch.Tensor
    point_bbox_with_dp_indices: torch.Tensor
    point_bbox_indices: torch.Tensor
    bbox_indices: torch.Tensor


class RegionAnnotations(AnnotationsAccumulator):
    """Collects points, boxes and coarse labels, which all kinds of annotations have."""

    def __init__(self) -> None:
        self.x_gt: list[torch.Tensor] = []
        self.y_gt: list[torch.Tensor] = []
        self.s_gt: list[torch.Tensor] = []
        self.bbox_xywh_gt: list[torch.Tensor] = []
        self.bbox_xywh_est: list[torch.Tensor] = []
        self.point_bbox_with_dp_indices: list[torch.Tensor] = []
        self.point_bbox_indices: list[torch.Tensor] = []
        self.bbox_indices: list[int] = []
        self.nxt_bbox_with_dp_index = 0
        self.nxt_bbox_index = 0

    def accumulate(self, instances_one_image: Instances) -> None:
        """Add an image's regions, with ``proposal_boxes``, ``gt_boxes`` and ``gt_densepose``."""
        first, count = self.nxt_bbox_index, len(instances_one_image)
        self.nxt_bbox_index += count
        if not count or not instances_one_image.has("gt_densepose"):
            return
        boxes_est, boxes_gt = (
            BoxMode.convert(boxes.tensor, BoxMode.XYXY_ABS, BoxMode.XYWH_ABS).split(1)
            for boxes in (instances_one_image.proposal_boxes, instances_one_image.gt_boxes)
        )
        regions = zip(boxes_gt, boxes_est, instances_one_image.gt_densepose, strict=True)
        for number, (box_gt, box_est, dp_gt) in enumerate(regions, start=first):
            if dp_gt is not None and len(dp_gt.x):
                self.nxt_bbox_index = number
                self._do_accumulate(box_gt, box_est, dp_gt)
        self.nxt_bbox_index = first + count

    def _do_accumulate(
        self, box_xywh_gt: torch.Tensor, box_xywh_est: torch.Tensor, dp_gt: Any
    ) -> None:
        """Add the region ``nxt_bbox_index``, which has annotated points; boxes are ``(1, 4)``."""
        self.x_gt.append(dp_gt.x)
        self.y_gt.append(dp_gt.y)
        if hasattr(dp_gt, "segm"):
            self.s_gt.append(dp_gt.segm[None])
        self.bbox_xywh_gt.append(box_xywh_gt)
        self.bbox_xywh_est.append(box_xywh_est)
        number = torch.zeros_like(dp_gt.x, dtype=torch.long)
        self.point_bbox_with_dp_indices.append(number + self.nxt_bbox_with_dp_index)
        self.point_bbox_indices.append(number + self.nxt_bbox_index)
        self.bbox_indices.append(self.nxt_bbox_index)
        self.nxt_bbox_with_dp_index += 1

    def _packed(self) -> dict[str, Any]:
        """Return what all kinds of packed annotations have in common."""
        has_labels = len(self.s_gt) == len(self.bbox_xywh_gt)
        device = self.x_gt[0].device
        return {
            "x_gt": torch.cat(self.x_gt),
            "y_gt": torch.cat(self.y_gt),
            "coarse_segm_gt": torch.cat(self.s_gt) if has_labels else None,
            "bbox_xywh_gt": torch.cat(self.bbox_xywh_gt),
            "bbox_xywh_est": torch.cat(self.bbox_xywh_est),
            "point_bbox_with_dp_indices": torch.cat(self.point_bbox_with_dp_indices),
            "point_bbox_indices": torch.cat(self.point_bbox_indices),
            "bbox_indices": torch.tensor(self.bbox_indices, device=device),
        }


class ChartBasedAnnotationsAccumulator(RegionAnnotations):
    """Collects annotations of charts."""

    def __init__(self) -> None:
        super().__init__()
        self.i_gt: list[torch.Tensor] = []
        self.u_gt: list[torch.Tensor] = []
        self.v_gt: list[torch.Tensor] = []

    def _do_accumulate(
        self, box_xywh_gt: torch.Tensor, box_xywh_est: torch.Tensor, dp_gt: Any
    ) -> None:
        super()._do_accumulate(box_xywh_gt, box_xywh_est, dp_gt)
        self.i_gt.append(dp_gt.i)
        self.u_gt.append(dp_gt.u)
        self.v_gt.append(dp_gt.v)

    def pack(self) -> PackedChartBasedAnnotations | None:
        """Return the annotations of all regions; None if no region has any."""
        if not self.i_gt:
            return None
        return PackedChartBasedAnnotations(
            fine_segm_labels_gt=torch.cat(self.i_gt).long(),
            u_gt=torch.cat(self.u_gt),
            v_gt=torch.cat(self.v_gt),
            **self._packed(),
        )


def extract_packed_annotations_from_matches(
    proposals_with_targets: Sequence[Instances], accumulator: AnnotationsAccumulator
) -> Any:
    """Return the annotations of all images' regions, packed by the accumulator."""
    for proposals in proposals_with_targets:
        accumulator.accumulate(proposals)
    return accumulator.pack()


def sample_random_indices(
    n_indices: int, n_samples: int, device: torch.device | None = None
) -> torch.Tensor | None:
    """Draw ``n_samples`` of ``n_indices`` numbers; None, for all, if there are no more than that.

    A number of samples that is not positive stands for all, too.
    """
    if n_samples <= 0 or n_indices <= n_samples:
        return None
    return torch.randperm(n_indices, device=device)[:n_samples]
