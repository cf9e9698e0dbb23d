"""True masks, cropped to boxes."""

from __future__ import annotations

import torch

from retinue.utils.errors import expect_shape

__all__ = ["batch_crop_masks_within_box", "crop_mask_within_box"]


def batch_crop_masks_within_box(
    masks: torch.Tensor, boxes: torch.Tensor, mask_side_len: int
) -> torch.Tensor:
    """Return what of each mask is in its box, as a small square mask.

    Boxes are cut to whole pixels and stretched bilinearly; a cell is filled if any pixel it was
    interpolated from is. Objects of Pix3D are thin: chairs keep their legs.

    Args:
        masks: ``(R, H, W)`` of one image, 0 outside of the object.
        boxes: ``(R, 4)`` x0, y0, x1, y1 in pixels.
        mask_side_len: M.

    Returns:
        ``(R, M, M)`` float32, 0 or 1.
    """
    expect_shape("batch_crop_masks_within_box: masks", masks, (len(boxes), "H", "W"))
    x0, y0, x1, y1 = boxes.int().long().unbind(dim=1)  # towards 0, as a crop of whole pixels is
    rows = _sources(y0, y1, masks.shape[1], mask_side_len)  # (R, M) twice: below and above
    columns = _sources(x0, x1, masks.shape[2], mask_side_len)
    one = torch.arange(len(boxes), device=masks.device)[:, None, None]
    filled = torch.zeros(
        len(boxes), mask_side_len, mask_side_len, dtype=torch.bool, device=masks.device
    )
    for row in rows:
        for column in columns:
            filled |= masks[one, row[:, :, None], column[:, None]] > 0
    return filled.float()


def _sources(
    low: torch.Tensor, high: torch.Tensor, size: int, side: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ``(R, side)`` the two pixels that each cell along an axis lies between."""
    low = low.clamp(0, size - 1)
    length = (high.clamp(max=size) - low).clamp(min=1)[:, None]
    cells = torch.arange(side, device=low.device) + 0.5
    at = (cells * length / side - 0.5).clamp(min=0)
    below = at.floor().long()
    above = torch.where(at > below, below + 1, below).minimum(length - 1)
    return low[:, None] + below, low[:, None] + above


def crop_mask_within_box(mask: torch.Tensor, box: torch.Tensor, mask_size: int) -> torch.Tensor:
    """Do :func:`batch_crop_masks_within_box` for one mask ``(H, W)`` and box ``(4,)``."""
    return batch_crop_masks_within_box(mask[None], box[None], mask_size)[0]
