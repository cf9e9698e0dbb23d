"""A batch of images of different sizes in one padded tensor.

Shapes
    N images; C channels; H, W rows and columns of the padded batch; h, w those of one image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from retinue.utils.errors import InputError

__all__ = ["ImageList"]


class ImageList:
    """Images in the top-left corners of one tensor, and their own sizes.

    Args:
        tensor: ``(N, H, W)`` or ``(N, ..., H, W)``, any dtype.
        image_sizes: (height, width) of each image in pixels, before padding.
    """

    def __init__(self, tensor: torch.Tensor, image_sizes: list[tuple[int, int]]) -> None:
        self.tensor = tensor
        self.image_sizes = image_sizes

    def __len__(self) -> int:
        return len(self.image_sizes)

    def __getitem__(self, idx: int) -> torch.Tensor:
        """Return one image without its padding, ``(..., h, w)``."""
        height, width = self.image_sizes[idx]
        return self.tensor[idx, ..., :height, :width]

    def to(self, *args: Any, **kwargs: Any) -> ImageList:
        """Move or cast the tensor; arguments as for ``torch.Tensor.to``."""
        return ImageList(self.tensor.to(*args, **kwargs), self.image_sizes)

    @property
    def device(self) -> torch.device:
        """The device of the tensor."""
        return self.tensor.device

    @staticmethod
    def from_tensors(
        tensors: Sequence[torch.Tensor],
        size_divisibility: int = 0,
        pad_value: float = 0.0,
        padding_constraints: Mapping[str, int] | None = None,
    ) -> ImageList:
        """Pad images at the right and bottom to one size and stack them.

        Args:
            tensors: images ``(..., h, w)`` of one dtype, equal in all but height and width.
            size_divisibility: padded height and width become multiples of it; 0 and 1: no matter.
            pad_value: what the padding is filled with.
            padding_constraints: what the backbone asks for. ``"size_divisibility"`` replaces the
                argument; ``"square_size"``, where positive, is the padded height and width.

        Raises:
            InputError: If there are no images, one isn't a tensor, their channels differ, or one
                is larger than ``square_size``.

        Example:
            >>> batch = ImageList.from_tensors([torch.ones(3, 5, 7), torch.ones(3, 6, 4)], 4)
            >>> tuple(batch.tensor.shape), batch.image_sizes
            ((2, 3, 8, 8), [(5, 7), (6, 4)])
        """
        _check_images(tensors)
        constraints = padding_constraints or {}
        stride = max(constraints.get("size_divisibility", size_divisibility), 1)
        square = constraints.get("square_size", 0)
        sizes = [(image.shape[-2], image.shape[-1]) for image in tensors]
        largest = [max(side) for side in zip(*sizes, strict=True)]
        if square > 0:
            if max(largest) > square:
                raise InputError(
                    f"ImageList.from_tensors: images must fit into {square} x {square} pixels"
                    f" (square_size); got {largest[0]} x {largest[1]}: resize them, or raise it"
                )
            largest = [square, square]
        height, width = (-(-side // stride) * stride for side in largest)  # rounded up

        shape = (len(tensors), *tensors[0].shape[:-2], height, width)
        if all(size == (height, width) for size in sizes):
            return ImageList(torch.stack(list(tensors)), sizes)
        batch = tensors[0].new_full(shape, pad_value)
        for index, (image, (h, w)) in enumerate(zip(tensors, sizes, strict=True)):
            batch[index, ..., :h, :w].copy_(image)
        return ImageList(batch, sizes)


def _check_images(tensors: Sequence[torch.Tensor]) -> None:
    where = "ImageList.from_tensors"
    if not isinstance(tensors, list | tuple) or len(tensors) == 0:
        raise InputError(f"{where}: expected a list of at least one image; got {tensors!r}")
    for index, image in enumerate(tensors):
        if not isinstance(image, torch.Tensor):
            raise InputError(f"{where}: image {index} must be a tensor; got {type(image).__name__}")
        if image.dim() < 2 or image.shape[:-2] != tensors[0].shape[:-2]:
            raise InputError(
                f"{where}: images must be equal in all but height and width; image 0 has shape"
                f" {tuple(tensors[0].shape)}, image {index} has {tuple(image.shape)}"
            )
