"""RoI pooling: the largest value in each bin of a region, of Fast R-CNN.

Girshick (2015), section 2.1, https://arxiv.org/abs/1504.08083.

Shapes
    N images; R regions, all images together; C channels; H, W rows and columns of the feature map;
    P, Q rows and columns of the output, in bins; B = R * P * Q.

Units
    A region is (image index, x0, y0, x1, y1) in pixels; its corners are rounded to whole cells, the
    last of which belong to it. Bins of one region may share cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.modules.utils import _pair

from retinue.layers.operators import laid_out_as, register_operator
from retinue.layers.roi_align import with_image_index
from retinue.layers.sparse_rows import expand_runs, max_rows
from retinue.utils.errors import expect_shape

__all__ = ["ROIPool", "roi_pool"]


def _bin_ranges(
    start: torch.Tensor, end: torch.Tensor, num_bins: int, num_cells: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the first cell, ``(R, P)``, and the number of cells of each bin along an axis.

    Args:
        start: ``(R,)`` first cell of regions, not rounded.
        end: ``(R,)`` last cell, not rounded.
        num_bins: P.
        num_cells: H or W.
    """
    start, end = _round(start), _round(end)
    bin_size = ((end - start + 1).clamp(min=1) / num_bins)[:, None]
    bins = torch.arange(num_bins, dtype=start.dtype, device=start.device)
    low = ((bins * bin_size).floor() + start[:, None]).clamp(0, num_cells)
    high = (((bins + 1) * bin_size).ceil() + start[:, None]).clamp(0, num_cells)
    return low.long(), (high - low).clamp(min=0).long()


def _round(x: torch.Tensor) -> torch.Tensor:
    """Round halves away from zero, as C does."""
    return x.nan_to_num(0.0).abs().add(0.5).floor().copysign(x)


def _forward(
    x: torch.Tensor, rois: torch.Tensor, output_size: Sequence[int], spatial_scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ``(B, C)`` largest values and the rows of the table of cells that hold them."""
    channels, height, width = x.shape[1:]
    num_rows, num_columns = output_size
    corners = rois[:, 1:].to(torch.promote_types(x.dtype, torch.float32)) * spatial_scale
    y_low, y_count = _bin_ranges(corners[:, 1], corners[:, 3], num_rows, height)
    x_low, x_count = _bin_ranges(corners[:, 0], corners[:, 2], num_columns, width)
    first_line = (rois[:, 0].long() * height)[:, None] + y_low  # (R, P)

    shape = (len(rois), num_rows, num_columns)
    is_empty = x_count[:, None, :] == 0
    lines = torch.where(is_empty, 0, y_count[:, :, None]).flatten()
    line, bin_, line_offsets = expand_runs(first_line[:, :, None].expand(shape).flatten(), lines)
    cell_low = line * width + x_low[:, None, :].expand(shape).flatten()[bin_]
    rows, _, offsets = expand_runs(cell_low, x_count[:, None, :].expand(shape).flatten()[bin_])
    table = x.permute(0, 2, 3, 1).reshape(-1, channels)
    return max_rows(table, rows, offsets[line_offsets])


def _fake_forward(
    x: torch.Tensor, rois: torch.Tensor, output_size: Sequence[int], spatial_scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    values = x.new_empty(rois.shape[0] * output_size[0] * output_size[1], x.shape[1])
    return values, values.new_empty(values.shape, dtype=torch.int64)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, torch.Tensor]) -> None:
    ctx.shape = inputs[0].shape
    ctx.save_for_backward(output[1])
    ctx.mark_non_differentiable(output[1])


def _grad(ctx: Any, grad: torch.Tensor, _: Any) -> tuple[Any, ...]:
    (rows,) = ctx.saved_tensors
    num_images, channels, height, width = ctx.shape
    table = grad.new_zeros(num_images * height * width, channels)
    table = table.scatter_add(0, rows.clamp(min=0), torch.where(rows >= 0, grad, 0.0))
    by_cell = table.view(num_images, height, width, channels)
    return by_cell.permute(0, 3, 1, 2), None, None, None


_roi_pool_op = register_operator(
    "roi_pool(Tensor x, Tensor rois, SymInt[] output_size, float spatial_scale)"
    " -> (Tensor, Tensor)",
    _forward,
    fake=_fake_forward,
    backward=_grad,
    setup_context=_save,
)


def roi_pool(
    input: torch.Tensor,
    boxes: torch.Tensor | Sequence[torch.Tensor],
    output_size: int | Sequence[int],
    spatial_scale: float = 1.0,
) -> torch.Tensor:
    """Take the largest value in each bin of each region.

    Args:
        input: ``(N, C, H, W)``.
        boxes: ``(R, 5)``: image index, then x0, y0, x1, y1; or N tensors ``(r, 4)``.
        output_size: (P, Q), or one number for both.
        spatial_scale: cells per pixel.

    Returns:
        ``(R, C, P, Q)`` in the order of ``input``, 0 for a bin outside the image; differentiable
        with respect to ``input``.
    """
    rois = boxes if isinstance(boxes, torch.Tensor) else with_image_index(boxes)
    expect_shape("roi_pool: input", input, ("N", "C", "H", "W"))
    expect_shape("roi_pool: boxes", rois, ("R", 5))
    num_rows, num_columns = _pair(output_size)
    values, _ = _roi_pool_op(input, rois.detach(), [num_rows, num_columns], float(spatial_scale))
    out = values.view(rois.shape[0], num_rows, num_columns, input.shape[1]).permute(0, 3, 1, 2)
    return laid_out_as(out, input)


class ROIPool(nn.Module):
    """``roi_pool`` with fixed options.

    Args:
        output_size: (P, Q), or one number for both.
        spatial_scale: cells per pixel.
    """

    def __init__(self, output_size: int | tuple[int, int], spatial_scale: float) -> None:
        super().__init__()
        self.output_size = output_size
        self.spatial_scale = spatial_scale

    def forward(
        self, input: torch.Tensor, rois: torch.Tensor | Sequence[torch.Tensor]
    ) -> torch.Tensor:
        """Pool ``(R, 5)`` regions of ``(N, C, H, W)`` to ``(R, C, P, Q)``."""
        return roi_pool(input, rois, self.output_size, self.spatial_scale)

    def __repr__(self) -> str:
        return f"ROIPool(output_size={self.output_size}, spatial_scale={self.spatial_scale})"
