"""RoIAlign of rotated regions.

Shapes
    N images; R regions, all images together; C channels; H, W rows and columns of a feature map;
    P, Q rows and columns of the output, in bins; K samples of all bins.

Units
    A region is (image index, x centre, y centre, width, height, angle) in pixels of the network
    input and degrees counter-clockwise; ``spatial_scale`` turns pixels into feature cells.

As RoIAlign, with the grid of samples turned about the region's centre. The weights of a sample no
longer separate, so that the sparse matrix has four entries for each of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from retinue.layers.region_pooling import Grid, RegionPooling, Regions, samples_per_bin
from retinue.layers.sparse_rows import Bags, expand_runs
from retinue.utils.errors import expect_shape

__all__ = ["ROIAlignRotated", "roi_align_rotated", "roi_align_rotated_levels"]


def _neighbours(
    position: torch.Tensor, num_cells: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the two cells around positions ``(K,)`` on an axis, and the second one's share."""
    position = position.clamp(min=0)
    low = position.floor().minimum(num_cells - 1)
    share = torch.where(low < num_cells - 1, position - low, 0.0)
    return low.long(), (low + 1).minimum(num_cells - 1).long(), share


def _bin_sizes(regions: Regions, grid: Grid) -> torch.Tensor:
    """Return ``(R, 2)`` sizes of bins, x and y, in cells."""
    num_rows, num_columns = grid.output_size
    num_bins = regions.rois.new_tensor([num_columns, num_rows])
    return regions.rois[:, 3:5] * regions.scale[:, None] / num_bins


def _pooling_matrix(regions: Regions, grid: Grid) -> Bags:
    rois, dtype = regions.rois, regions.rois.dtype
    num_rows, num_columns = grid.output_size
    centre = rois[:, 1:3] * regions.scale[:, None] - 0.5
    bin_size = _bin_sizes(regions, grid)
    num_samples = samples_per_bin(bin_size, grid.sampling_ratio).long()  # (R, 2): x, y
    angle = rois[:, 5].deg2rad()

    # One run of samples a bin, row by row.
    per_bin = num_samples.prod(dim=1).repeat_interleave(num_rows * num_columns)
    number, bin_, offsets = expand_runs(torch.zeros_like(per_bin), per_bin)
    region = bin_ // (num_rows * num_columns)
    row, column = bin_ // num_columns % num_rows, bin_ % num_columns
    num_x, num_y = num_samples[region].unbind(1)
    bin_w, bin_h = bin_size[region].unbind(1)
    step_x = ((number % num_x).to(dtype) + 0.5) / num_x
    step_y = ((number // num_x).to(dtype) + 0.5) / num_y
    along_x = (column - num_columns / 2 + step_x) * bin_w
    along_y = (row - num_rows / 2 + step_y) * bin_h
    cos, sin = angle.cos()[region], angle.sin()[region]
    x = along_y * sin + along_x * cos + centre[region, 0]
    y = along_y * cos - along_x * sin + centre[region, 1]

    height, width = regions.height.to(dtype)[region], regions.width.to(dtype)[region]
    is_used = (y >= -1) & (y <= height) & (x >= -1) & (x <= width)
    x_low, x_high, x_share = _neighbours(torch.where(is_used, x, 0.0), width)
    y_low, y_high, y_share = _neighbours(torch.where(is_used, y, 0.0), height)
    image_start = regions.first_cell + rois[:, 0].long() * regions.height * regions.width
    start, step = image_start[region], regions.width[region]
    low, high = start + y_low * step, start + y_high * step
    share = is_used.to(dtype) / (num_x * num_y)
    low_share, high_share = (1 - y_share) * share, y_share * share
    rows = torch.stack([low + x_low, low + x_high, high + x_low, high + x_high], dim=1)
    weights = torch.stack(
        [
            low_share * (1 - x_share),
            low_share * x_share,
            high_share * (1 - x_share),
            high_share * x_share,
        ],
        dim=1,
    )
    return Bags(rows.flatten(), weights.flatten(), offsets * 4)


def _num_entries(regions: Regions, grid: Grid) -> torch.Tensor:
    samples = samples_per_bin(_bin_sizes(regions, grid), grid.sampling_ratio).long()
    return 4 * grid.output_size[0] * grid.output_size[1] * samples.prod(dim=1)


_pool = RegionPooling("roi_align_rotated_levels", _pooling_matrix, _num_entries)


def roi_align_rotated_levels(
    features: Sequence[torch.Tensor],
    rois: torch.Tensor,
    levels: torch.Tensor,
    output_size: int | Sequence[int],
    spatial_scales: Sequence[float],
    sampling_ratio: int = 0,
) -> torch.Tensor:
    """Pool each rotated region from its own level of a feature pyramid.

    Args:
        features: one ``(N, C, H, W)`` a level, of one dtype; H and W differ.
        rois: ``(R, 6)``: image index, x and y of the centre, width, height, angle.
        levels: ``(R,)`` int64: the index in ``features`` of each region's level.
        output_size: (P, Q), or one number for both.
        spatial_scales: cells per pixel, one a level.
        sampling_ratio: samples of a bin along each axis; 0 or less for as many as it has cells.

    Returns:
        ``(R, C, P, Q)`` of the features' dtype and memory order; differentiable with
        respect to ``features``.
    """
    expect_shape("roi_align_rotated_levels: rois", rois, ("R", 6))
    return _pool(features, rois, levels, output_size, spatial_scales, sampling_ratio, True)


def roi_align_rotated(
    input: torch.Tensor,
    roi: torch.Tensor,
    output_size: int | Sequence[int],
    spatial_scale: float,
    sampling_ratio: int,
) -> torch.Tensor:
    """Pool rotated regions ``(R, 6)`` of one feature map ``(N, C, H, W)`` to ``(R, C, P, Q)``."""
    expect_shape("roi_align_rotated: roi", roi, ("R", 6))
    levels = roi.new_zeros(roi.shape[0], dtype=torch.int64)
    return roi_align_rotated_levels(
        [input], roi, levels, output_size, [spatial_scale], sampling_ratio
    )


class ROIAlignRotated(nn.Module):
    """``roi_align_rotated`` with fixed options; cell centres are at half-integer coordinates.

    Args:
        output_size: (P, Q).
        spatial_scale: cells per pixel.
        sampling_ratio: samples of a bin along each axis; 0 for as many as it has cells.
    """

    def __init__(
        self, output_size: int | tuple[int, int], spatial_scale: float, sampling_ratio: int
    ) -> None:
        super().__init__()
        self.output_size = output_size
        self.spatial_scale = spatial_scale
        self.sampling_ratio = sampling_ratio

    def forward(self, input: torch.Tensor, rois: torch.Tensor) -> torch.Tensor:
        """Pool ``(R, 6)`` regions of ``(N, C, H, W)`` to ``(R, C, P, Q)``."""
        expect_shape("ROIAlignRotated: rois", rois, ("R", 6))
        return roi_align_rotated(
            input, rois, self.output_size, self.spatial_scale, self.sampling_ratio
        )

    def __repr__(self) -> str:
        return (
            f"ROIAlignRotated(output_size={self.output_size},"
            f" spatial_scale={self.spatial_scale}, sampling_ratio={self.sampling_ratio})"
        )
