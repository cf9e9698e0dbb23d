"""Images as tensors ``(N, C, H, W)`` and back, and moving their pixels."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

__all__ = ["as_tensor", "from_planes", "to_planes", "warp"]


def as_tensor(img: np.ndarray) -> torch.Tensor:
    """Share memory where PyTorch can: not with reversed views, nor with Pillow's own pixels."""
    return torch.from_numpy(np.require(img, requirements=["C", "W"]))


def to_planes(img: np.ndarray) -> torch.Tensor:
    """Turn an image into float ``(N, C, H, W)``."""
    planes = as_tensor(img)
    planes = planes if planes.is_floating_point() else planes.float()
    if img.ndim == 2:
        return planes[None, None]
    return planes[None].permute(0, 3, 1, 2) if img.ndim == 3 else planes.permute(0, 3, 1, 2)


def from_planes(planes: torch.Tensor, like: np.ndarray) -> np.ndarray:
    """Undo ``to_planes``, giving the layout of ``like`` and, for uint8, its type."""
    planes = planes.round().byte() if like.dtype == np.uint8 else planes
    if like.ndim == 2:
        return planes[0, 0].numpy()
    image = planes.permute(0, 2, 3, 1)
    return (image[0] if like.ndim == 3 else image).numpy()


def warp(
    img: np.ndarray, matrix: np.ndarray, size_hw: tuple[int, int], *, nearest: bool
) -> np.ndarray:
    """Move each pixel by ``matrix``, ``(2, 3)`` on pixel indices x, y; zeros come in from outside.

    Interpolates as OpenCV's ``warpAffine``, without its rounding of positions to 1/32 pixel.
    """
    inverse = np.linalg.inv(np.vstack([matrix, [0.0, 0.0, 1.0]]))[:2]
    rows, columns = np.indices(size_hw)
    index_xy = np.stack([columns, rows, np.ones_like(rows)], axis=-1) @ inverse.T  # (H, W, 2)
    # grid_sample counts from -1 to 1 over the image, whose first pixel's centre is at 1/2.
    grid = (2 * index_xy + 1) / (img.shape[1], img.shape[0]) - 1
    sampled = F.grid_sample(
        to_planes(img.astype(np.float64)),  # labels stay exact
        torch.from_numpy(grid)[None],
        mode="nearest" if nearest else "bilinear",
        padding_mode="zeros",
        align_corners=False,
    )
    return from_planes(sampled, img).astype(img.dtype, copy=False)
