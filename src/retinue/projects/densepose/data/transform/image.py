"""Resizes batches of images."""

import torch
from torch.nn import functional as F

__all__ = ["ImageResizeTransform"]


class ImageResizeTransform:
    """Resizes to a shorter side of ``min_size``, or less where the longer would pass ``max_size``.

    Args:
        min_size: in pixels.
        max_size: likewise.
    """

    def __init__(self, min_size: int = 800, max_size: int = 1333) -> None:
        self.min_size = min_size
        self.max_size = max_size

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Map ``(N, 3, H, W)`` of any type to float32 of the new size."""
        shorter, longer = sorted(images.shape[-2:])
        scale = min(self.min_size / shorter, self.max_size / longer)
        return F.interpolate(
            images.float(), scale_factor=scale, mode="bilinear", align_corners=False
        )
