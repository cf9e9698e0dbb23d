"""Masks of regions, pasted into images, and masks of images, cropped to regions.

Shapes
    N masks; M cells along a side of a mask; H, W rows and columns of the image; P pixels.

Units
    Boxes are x0, y0, x1, y1 in pixels; a mask's M x M cells fill its box. The value at a pixel's
    centre is interpolated bilinearly between cell centres, with zeros around the mask.

Interpolation is separable: ``rows (H, M) @ mask (M, M) @ columns (M, W)``, where a row of either
matrix holds the weights of the two nearest cells.

Reading order: _positions and _weights make the two matrices, _paste_one_by_one multiplies them
within each box; paste_soft_masks interpolates whole images at once.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from retinue.layers.operators import register_operator
from retinue.layers.roi_align import AxisWeights, axis_weights, roi_align
from retinue.utils.errors import InputError, expect_shape

__all__ = ["crop_masks", "paste_masks_in_image", "paste_soft_masks"]

BYTES_PER_FLOAT = 4
# Bytes of interpolated values at a time, on devices where masks are pasted many at once.
GPU_MEM_LIMIT = 1024**3


class HasTensor(Protocol):
    """Boxes of an image in a structure, such as ``retinue.structures.Boxes``."""

    tensor: torch.Tensor


def _positions(
    num_pixels: int, low: torch.Tensor, high: torch.Tensor, num_cells: int
) -> torch.Tensor:
    """Return where pixel centres lie among a mask's cell centres, ``(N, P)``, in cells.

    Args:
        num_pixels: P.
        low: ``(N, 1)`` where boxes begin along the axis.
        high: ``(N, 1)`` where they end; every pixel is far away from a box without extent.
        num_cells: M.
    """
    pixels = torch.arange(num_pixels, dtype=low.dtype, device=low.device)
    positions = (pixels + 0.5 - low) / (high - low) * num_cells - 0.5
    return positions.nan_to_num(-2.0, num_cells + 1.0, -2.0)


def _weights(positions: torch.Tensor, num_cells: int) -> torch.Tensor:
    """Return the weight of each cell for each pixel, ``(..., P, M)``."""
    cells = torch.arange(num_cells, dtype=positions.dtype, device=positions.device)
    return (positions[..., None] - cells).abs_().neg_().add_(1).clamp_(min=0)


def paste_soft_masks(
    masks: torch.Tensor, boxes: torch.Tensor, image_shape: tuple[int, int]
) -> torch.Tensor:
    """Interpolate masks at every pixel of an image.

    Args:
        masks: ``(N, M, M)`` floating point.
        boxes: ``(N, 4)``.
        image_shape: (H, W).

    Returns:
        ``(N, H, W)`` of the masks' dtype; differentiable with respect to the masks.
    """
    dtype = torch.promote_types(masks.dtype, torch.float32)
    height, width = image_shape
    x0, y0, x1, y1 = boxes.detach().to(dtype).split(1, dim=1)  # (N, 1) each
    # grid_sample's coordinates: -1 and 1 are the edges of the mask. It is slower than the product
    # of two matrices, but rounds as detectron2 does, which 8-bit masks show.
    rows = _centres(height, boxes, dtype).sub(y0).div(y1 - y0).mul(2).sub(1)  # (N, H)
    columns = _centres(width, boxes, dtype).sub(x0).div(x1 - x0).mul(2).sub(1)  # (N, W)
    grid = torch.stack(
        [
            columns[:, None, :].expand(-1, height, width),
            rows[:, :, None].expand(-1, height, width),
        ],
        dim=-1,
    ).nan_to_num(-2.0, 2.0, -2.0)  # every pixel is outside a box without extent
    return F.grid_sample(masks.to(dtype)[:, None], grid, align_corners=False)[:, 0].to(masks.dtype)


def _centres(num_pixels: int, boxes: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return torch.arange(num_pixels, dtype=dtype, device=boxes.device) + 0.5


def _windows(boxes: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Return ``(N, 4)`` int64: the pixels of boxes, one more on each side, within the image."""
    limit = boxes.new_tensor([width, height, width, height])
    bounds = torch.cat([boxes[:, :2].floor() - 1, boxes[:, 2:].ceil() + 1], dim=1)
    return bounds.nan_to_num(0.0).clamp(min=0).minimum(limit).long()


def _binarize(values: torch.Tensor, threshold: float, out: torch.Tensor) -> None:
    if threshold >= 0:
        torch.ge(values, threshold, out=out)
    else:
        out.copy_(values.mul_(255))


def _paste_one_by_one(
    masks: torch.Tensor, boxes: torch.Tensor, threshold: float, out: torch.Tensor
) -> None:
    """Paste each mask into its window of ``out``; a loop, as windows differ in size."""
    height, width = out.shape[1:]
    num_cells = masks.shape[1]
    x0, y0, x1, y1 = boxes.split(1, dim=1)
    row_positions = _positions(height, y0, y1, num_cells)
    column_positions = _positions(width, x0, x1, num_cells)
    for i, (left, top, right, bottom) in enumerate(_windows(boxes, height, width).tolist()):
        if left < right and top < bottom:
            rows = _weights(row_positions[i, top:bottom], num_cells)
            columns = _weights(column_positions[i, left:right], num_cells)
            values = rows @ masks[i] @ columns.T
            _binarize(values, threshold, out[i, top:bottom, left:right])


def _paste_many(
    masks: torch.Tensor, boxes: torch.Tensor, threshold: float, out: torch.Tensor
) -> None:
    """Paste masks a batch at a time, for devices that want much work at once."""
    height, width = out.shape[1:]
    batch = max(1, GPU_MEM_LIMIT // max(1, height * width * BYTES_PER_FLOAT))
    rows = torch.arange(height, device=out.device)[:, None]
    columns = torch.arange(width, device=out.device)[None, :]
    for mask, box, target in zip(
        masks.split(batch), boxes.split(batch), out.split(batch), strict=True
    ):
        values = paste_soft_masks(mask, box, (height, width))
        left, top, right, bottom = _windows(box, height, width)[:, :, None, None].unbind(1)
        is_inside = (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)
        _binarize(values.mul_(is_inside), threshold, target)
        if threshold == 0:  # which zeros outside the window would reach
            target.logical_and_(is_inside)


def _paste(
    masks: torch.Tensor, boxes: torch.Tensor, height: int, width: int, threshold: float
) -> torch.Tensor:
    out_dtype = torch.bool if threshold >= 0 else torch.uint8
    out = torch.zeros(masks.shape[0], height, width, dtype=out_dtype, device=masks.device)
    dtype = torch.promote_types(masks.dtype, torch.float32)
    one_by_one = masks.device.type == "cpu" and threshold >= 0
    paste = _paste_one_by_one if one_by_one else _paste_many
    paste(masks.to(dtype), boxes.to(dtype), threshold, out)
    return out


def _fake_paste(
    masks: torch.Tensor, boxes: torch.Tensor, height: int, width: int, threshold: float
) -> torch.Tensor:
    out_dtype = torch.bool if threshold >= 0 else torch.uint8
    return masks.new_empty((masks.shape[0], height, width), dtype=out_dtype)


_paste_op = register_operator(
    "paste_masks(Tensor masks, Tensor boxes, SymInt height, SymInt width, float threshold)"
    " -> Tensor",
    _paste,
    fake=_fake_paste,
)


def paste_masks_in_image(
    masks: torch.Tensor,
    boxes: HasTensor | torch.Tensor,
    image_shape: tuple[int, int],
    threshold: float = 0.5,
) -> torch.Tensor:
    """Paste each mask into an image of zeros, where its box is.

    Args:
        masks: ``(N, M, M)`` of any dtype, in [0, 1].
        boxes: ``(N, 4)`` pixels.
        image_shape: (H, W).
        threshold: lowest value that belongs to the object; negative for soft masks.

    Returns:
        ``(N, H, W)`` bool; with a negative threshold uint8, 255 times the interpolated value,
        rounded down. Pixels more than one away from the box are 0.

    Raises:
        InputError: If masks aren't square, or there aren't as many boxes as masks.
    """
    box_tensor = boxes if isinstance(boxes, torch.Tensor) else boxes.tensor
    expect_shape("paste_masks_in_image: masks", masks, ("N", "M", "M"))
    if masks.shape[1] != masks.shape[2]:
        raise InputError(
            f"paste_masks_in_image: masks must be square; got {tuple(masks.shape[1:])}"
        )
    expect_shape("paste_masks_in_image: boxes", box_tensor, (masks.shape[0], 4))
    height, width = image_shape
    return _paste_op(masks.detach(), box_tensor.detach(), height, width, threshold)


def _axis_matrices(weights: AxisWeights, num_bins: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Make a matrix of weights a region from a list of all entries.

    Returns:
        ``(N, M, L)``, L the largest number of cells of a region, and ``(N, 2)`` int64: the first
        cell of each region and the end of its cells.
    """
    counts = weights.offsets.diff().long()
    bin_ = torch.repeat_interleave(counts)
    region = bin_ // num_bins
    num_regions = len(counts) // num_bins
    cell = weights.cell.long()
    first = cell.new_full((num_regions,), torch.iinfo(torch.int64).max)
    first = first.scatter_reduce(0, region, cell, "amin")
    end = cell.new_zeros(num_regions).scatter_reduce(0, region, cell + 1, "amax")
    first = first.minimum(end)  # a region without cells begins where it ends
    matrices = weights.weight.new_zeros(num_regions, num_bins, int((end - first).max()))
    matrices[region, bin_ % num_bins, cell - first[region]] = weights.weight
    return matrices, torch.stack([first, end], dim=1)


def _crop(masks: torch.Tensor, boxes: torch.Tensor, mask_size: int) -> torch.Tensor:
    dtype = torch.promote_types(boxes.dtype, torch.float32)
    boxes = boxes.to(dtype)
    out = boxes.new_zeros(len(boxes), mask_size, mask_size)
    if masks.device.type != "cpu" or masks.numel() == 0 or len(boxes) == 0:
        index = torch.arange(len(boxes), dtype=dtype, device=boxes.device)
        rois = torch.cat([index[:, None], boxes], dim=1)
        return out.copy_(roi_align(masks[:, None].to(dtype), rois, mask_size, aligned=True)[:, 0])
    start, bin_size = boxes[:, :2] - 0.5, (boxes[:, 2:] - boxes[:, :2]) / mask_size
    height, width = (start.new_full((len(boxes),), size) for size in masks.shape[1:])
    x = axis_weights(start[:, 0], bin_size[:, 0], mask_size, width, 0)
    y = axis_weights(start[:, 1], bin_size[:, 1], mask_size, height, 0)
    x_matrices, x_cells = _axis_matrices(x, mask_size)
    y_matrices, y_cells = _axis_matrices(y, mask_size)
    cells = torch.cat([x_cells, y_cells], dim=1).tolist()
    for i, (left, right, top, bottom) in enumerate(cells):  # windows differ in size
        window = masks[i, top:bottom, left:right].to(dtype)
        rows, columns = y_matrices[i, :, : bottom - top], x_matrices[i, :, : right - left]
        torch.mm(rows @ window, columns.T, out=out[i])
    return out


def _fake_crop(masks: torch.Tensor, boxes: torch.Tensor, mask_size: int) -> torch.Tensor:
    dtype = torch.promote_types(boxes.dtype, torch.float32)
    return boxes.new_empty((boxes.shape[0], mask_size, mask_size), dtype=dtype)


_crop_op = register_operator(
    "crop_masks(Tensor masks, Tensor boxes, SymInt mask_size) -> Tensor", _crop, fake=_fake_crop
)


def crop_masks(masks: torch.Tensor, boxes: torch.Tensor, mask_size: int) -> torch.Tensor:
    """Resample masks of images inside boxes, as ``roi_align`` does with one channel a mask.

    Only the pixels of the boxes are read, so that masks need no copy in floating point.

    Args:
        masks: ``(N, H, W)`` of any dtype.
        boxes: ``(N, 4)``: the part of each mask, in pixels.
        mask_size: M.

    Returns:
        ``(N, M, M)`` of the boxes' dtype, float32 at least: the mean of each cell.
    """
    expect_shape("crop_masks: masks", masks, ("N", "H", "W"))
    expect_shape("crop_masks: boxes", boxes, (masks.shape[0], 4))
    return _crop_op(masks.detach(), boxes.detach(), mask_size)


def paste_mask_in_image_old(
    mask: torch.Tensor, box: torch.Tensor, img_h: int, img_w: int, threshold: float
) -> torch.Tensor:
    """Paste one mask the way of the first Detectron, up to a pixel off; kept for comparison.

    Args:
        mask: ``(M, M)`` in [0, 1].
        box: ``(4,)``, truncated to whole pixels, the last of which belong to it.
        img_h: H.
        img_w: W.
        threshold: what a value has to exceed; negative for soft masks.

    Returns:
        ``(H, W)`` uint8: 0 and 1, or up to 255 for a soft mask.
    """
    x0, y0, x1, y1 = box.to(torch.int32).tolist()
    resized = Image.fromarray(mask.cpu().numpy()).resize(
        (x1 - x0 + 1, y1 - y0 + 1), resample=Image.Resampling.BILINEAR
    )
    values = np.asarray(resized)
    pixels = (values > threshold if threshold >= 0 else values * 255).astype(np.uint8)
    image = np.zeros((img_h, img_w), dtype=np.uint8)
    top, bottom, left, right = max(y0, 0), min(y1 + 1, img_h), max(x0, 0), min(x1 + 1, img_w)
    if top < bottom and left < right:
        image[top:bottom, left:right] = pixels[top - y0 : bottom - y0, left - x0 : right - x0]
    return torch.from_numpy(image)


def pad_masks(masks: torch.Tensor, padding: int) -> tuple[torch.Tensor, float]:
    """Surround ``(N, M, M)`` masks by ``padding`` cells of zeros; return also the side's growth.

    >>> masks, scale = pad_masks(torch.ones(1, 4, 4), 1)
    >>> masks.shape, scale
    (torch.Size([1, 6, 6]), 1.5)
    """
    size = masks.shape[-1]
    return torch.nn.functional.pad(masks, (padding,) * 4), (size + 2 * padding) / size


def scale_boxes(boxes: torch.Tensor, scale: float) -> torch.Tensor:
    """Scale ``(N, 4)`` boxes about their centres.

    >>> scale_boxes(torch.tensor([[0.0, 0.0, 4.0, 2.0]]), 1.5)
    tensor([[-1.0000, -0.5000,  5.0000,  2.5000]])
    """
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]) / 2 * scale
    return torch.cat([centre - half, centre + half], dim=1)
