"""RoIAlign: regions of feature maps, resampled to a fixed size.

He et al., "Mask R-CNN" (2017), section 3, https://arxiv.org/abs/1703.06870.

Shapes
    N images; R regions, all images together; C channels; H, W rows and columns of a feature map;
    P, Q rows and columns of the output, in bins; S samples of a bin along one axis; K entries.

Units
    A region is (image index, x0, y0, x1, y1) in pixels of the network input; ``spatial_scale``
    turns pixels into feature cells.

A bin's value is the mean of bilinear samples on a regular grid. Bilinear weights are products of a
weight along y and one along x, so the operator is one sparse matrix, made of small outer products,
times the table (N*H*W, C) of feature cells. Its gradient is the transposed product.

Reading order: axis_weights weighs the cells of one axis, _pooling_matrix multiplies two axes,
roi_align_levels is the operator; region_pooling.py applies the matrix.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from retinue.layers.region_pooling import Grid, RegionPooling, Regions, samples_per_bin
from retinue.layers.sparse_rows import Bags, expand_runs
from retinue.utils.errors import expect_shape

__all__ = [
    "AxisWeights",
    "ROIAlign",
    "axis_weights",
    "roi_align",
    "roi_align_levels",
    "with_image_index",
]


class AxisWeights(NamedTuple):
    """What each bin reads along one axis; entries are ordered by region and bin."""

    offsets: torch.Tensor  # (R * P + 1,) int32: where the entries of a bin begin
    cell: torch.Tensor  # (K,) int32
    weight: torch.Tensor  # (K,)


def axis_weights(
    start: torch.Tensor,
    bin_size: torch.Tensor,
    num_bins: int,
    num_cells: torch.Tensor,
    sampling_ratio: int,
) -> AxisWeights:
    """Weigh the cells of one axis for each bin of each region.

    Args:
        start: ``(R,)`` where regions start, in cells.
        bin_size: ``(R,)`` cells per bin.
        num_bins: P.
        num_cells: ``(R,)`` H or W of the feature map of each region.
        sampling_ratio: see ``Grid``.
    """
    dtype, device = start.dtype, start.device
    num_samples = samples_per_bin(bin_size, sampling_ratio)[:, None, None]
    divisor = num_samples.clamp(min=1)
    start, bin_size = start[:, None, None], bin_size[:, None, None]
    num_cells = num_cells.to(dtype)[:, None, None]
    bins = torch.arange(num_bins, dtype=dtype, device=device)[:, None]
    samples = torch.arange(int(divisor.max()), dtype=dtype, device=device)
    # Operations in the reference's order, so that samples on a border fall on the same side.
    position = start + bins * bin_size + (samples + 0.5) * bin_size / divisor
    is_used = (position >= -1) & (position <= num_cells) & (samples < num_samples)  # (R, P, S)
    position = torch.where(is_used, position, 0.0).clamp(min=0)
    low = position.floor().minimum(num_cells - 1)
    upper_share = torch.where(low < num_cells - 1, position - low, 0.0)
    share = is_used / divisor

    first = torch.where(is_used, low, num_cells).amin(dim=2, keepdim=True)  # (R, P, 1)
    slot = torch.where(is_used, low - first, 0.0).long()
    dense = start.new_zeros(len(start), num_bins, int(slot.max()) + 2)
    dense.scatter_add_(2, slot, (1 - upper_share) * share)
    dense.scatter_add_(2, slot + 1, upper_share * share)

    region, bin_, offset = dense.nonzero(as_tuple=True)
    counts = dense.count_nonzero(dim=2).flatten()
    return AxisWeights(
        offsets=F.pad(counts.cumsum(0), (1, 0)).int(),
        cell=(first[region, bin_, 0].long() + offset).int(),
        weight=dense[region, bin_, offset],
    )


def _starts_and_bin_sizes(
    regions: Regions, grid: Grid
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return ``(R,)`` starts along y and x and bin sizes along y and x, in cells."""
    corners = regions.rois[:, 1:] * regions.scale[:, None] - (0.5 if grid.aligned else 0.0)
    extent = corners[:, 2:] - corners[:, :2]
    if not grid.aligned:
        extent = extent.clamp(min=1)
    num_rows, num_columns = grid.output_size
    return corners[:, 1], corners[:, 0], extent[:, 1] / num_rows, extent[:, 0] / num_columns


def _pooling_matrix(regions: Regions, grid: Grid) -> Bags:
    num_rows, num_columns = grid.output_size
    y_start, x_start, y_bin, x_bin = _starts_and_bin_sizes(regions, grid)
    y = axis_weights(y_start, y_bin, num_rows, regions.height, grid.sampling_ratio)
    x = axis_weights(x_start, x_bin, num_columns, regions.width, grid.sampling_ratio)

    # Entries of bin (r, p, q): each y entry of (r, p) with each x entry of (r, q).
    shape = (len(regions.rois), num_rows, num_columns)
    y_first = y.offsets[:-1].view(-1, num_rows, 1).expand(shape).flatten()
    y_count = y.offsets.diff().view(-1, num_rows, 1).expand(shape).flatten()
    x_first = x.offsets[:-1].view(-1, 1, num_columns).expand(shape).flatten()
    x_count = x.offsets.diff().view(-1, 1, num_columns).expand(shape).flatten()

    y_entry, bin_, y_offsets = expand_runs(y_first, y_count)
    x_entry, line, x_offsets = expand_runs(
        x_first.index_select(0, bin_), x_count.index_select(0, bin_)
    )
    image_start = regions.first_cell + regions.rois[:, 0].long() * regions.height * regions.width
    region = bin_ // (num_rows * num_columns)
    index_dtype = regions.cell_dtype
    line_start = image_start.to(index_dtype).index_select(0, region)
    line_start += y.cell.index_select(0, y_entry) * regions.width.to(index_dtype)[region]
    line_weight = y.weight.index_select(0, y_entry)
    return Bags(
        rows=line_start.index_select(0, line) + x.cell.index_select(0, x_entry),
        weights=line_weight.index_select(0, line) * x.weight.index_select(0, x_entry),
        offsets=x_offsets.index_select(0, y_offsets).to(index_dtype),
    )


def _num_entries(regions: Regions, grid: Grid) -> torch.Tensor:
    _, _, y_bin, x_bin = _starts_and_bin_sizes(regions, grid)
    num_y = samples_per_bin(y_bin, grid.sampling_ratio).long()
    num_x = samples_per_bin(x_bin, grid.sampling_ratio).long()
    num_rows, num_columns = grid.output_size
    y_cells = (num_y + 1).minimum(2 * num_y).minimum(regions.height)
    x_cells = (num_x + 1).minimum(2 * num_x).minimum(regions.width)
    # Samples along the axes come in tables as wide as the largest region needs.
    samples = num_rows * num_y.max() + num_columns * num_x.max()
    return num_rows * num_columns * y_cells * x_cells + samples


_pool = RegionPooling("roi_align_levels", _pooling_matrix, _num_entries)


def roi_align_levels(
    features: Sequence[torch.Tensor],
    rois: torch.Tensor,
    levels: torch.Tensor,
    output_size: int | Sequence[int],
    spatial_scales: Sequence[float],
    sampling_ratio: int = 0,
    aligned: bool = True,
) -> torch.Tensor:
    """Pool each region from its own level of a feature pyramid.

    Channels-last features are read where they are; others are copied to that order first. Box
    coordinates are used in float32 (float64 for float64 features), whatever the features are.

    Args:
        features: one ``(N, C, H, W)`` a level, of one dtype; H and W differ.
        rois: ``(R, 5)``: image index, then x0, y0, x1, y1 in pixels.
        levels: ``(R,)`` int64: the index in ``features`` of each region's level.
        output_size: (P, Q), or one number for both.
        spatial_scales: cells per pixel, one a level.
        sampling_ratio: samples of a bin along each axis; 0 or less for as many as it has cells.
        aligned: cell centres are at half-integer coordinates, as pixels' are. ``False`` is the
            original form, half a cell off, with regions of at least one cell.

    Returns:
        ``(R, C, P, Q)`` of the features' dtype and memory order; differentiable with
        respect to ``features``.

    Raises:
        InputError: If a shape doesn't fit.
    """
    expect_shape("roi_align_levels: rois", rois, ("R", 5))
    return _pool(features, rois, levels, output_size, spatial_scales, sampling_ratio, aligned)


def roi_align(
    input: torch.Tensor,
    boxes: torch.Tensor | Sequence[torch.Tensor],
    output_size: int | Sequence[int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = -1,
    aligned: bool = False,
) -> torch.Tensor:
    """Pool regions of one feature map; torchvision's function of this name.

    Args:
        input: ``(N, C, H, W)``.
        boxes: ``(R, 5)``: image index, then x0, y0, x1, y1; or N tensors ``(r, 4)``.
        output_size: (P, Q), or one number for both.
        spatial_scale: cells per pixel.
        sampling_ratio: as in ``roi_align_levels``.
        aligned: likewise.

    Returns:
        ``(R, C, P, Q)``.
    """
    rois = boxes if isinstance(boxes, torch.Tensor) else with_image_index(boxes)
    expect_shape("roi_align: boxes", rois, ("R", 5))
    levels = rois.new_zeros(rois.shape[0], dtype=torch.int64)
    return roi_align_levels(
        [input], rois, levels, output_size, [spatial_scale], sampling_ratio, aligned
    )


def with_image_index(boxes: Sequence[torch.Tensor]) -> torch.Tensor:
    """Join boxes ``(r, D)`` of each image to ``(R, 1 + D)``, the image's index first.

    >>> with_image_index([torch.zeros(0, 4), torch.ones(1, 4)])
    tensor([[1., 1., 1., 1., 1.]])
    """
    return torch.cat([F.pad(b, (1, 0), value=i) for i, b in enumerate(boxes)])


class ROIAlign(nn.Module):
    """``roi_align`` with fixed options.

    Args:
        output_size: (P, Q).
        spatial_scale: cells per pixel.
        sampling_ratio: samples of a bin along each axis; 0 for as many as it has cells.
        aligned: see ``roi_align_levels``.
    """

    def __init__(
        self,
        output_size: int | tuple[int, int],
        spatial_scale: float,
        sampling_ratio: int,
        aligned: bool = True,
    ) -> None:
        super().__init__()
        self.output_size = output_size
        self.spatial_scale = spatial_scale
        self.sampling_ratio = sampling_ratio
        self.aligned = aligned

    def forward(self, input: torch.Tensor, rois: torch.Tensor) -> torch.Tensor:
        """Pool ``(R, 5)`` regions of ``(N, C, H, W)`` to ``(R, C, P, Q)``."""
        expect_shape("ROIAlign: rois", rois, ("R", 5))
        return roi_align(
            input, rois, self.output_size, self.spatial_scale, self.sampling_ratio, self.aligned
        )

    def __repr__(self) -> str:
        return (
            f"ROIAlign(output_size={self.output_size}, spatial_scale={self.spatial_scale},"
            f" sampling_ratio={self.sampling_ratio}, aligned={self.aligned})"
        )
