"""What models get: a list of dicts, one an image, checked and turned into batches.

Shapes
    N images; C channels; h, w rows and columns of one image; H, W those of the padded batch.

The keys of a dict are ``image`` ``(C, h, w)``; in training ``instances`` and ``sem_seg``;
``proposals`` where the model has no proposal generator; ``height`` and ``width`` of the output,
those of the image by default.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from retinue.modeling.backbone.backbone import Backbone
from retinue.structures import ImageList
from retinue.utils.errors import InputError

__all__ = [
    "MissingInputError",
    "collect",
    "image_batch",
    "label_maps",
    "output_size",
    "register_pixel_statistics",
]


class MissingInputError(InputError, KeyError):
    """A key that an input dict lacks."""

    def __str__(self) -> str:  # KeyError would print the repr of its argument
        return str(self.args[0])


ImageDicts = Sequence[dict[str, Any]]


def register_pixel_statistics(
    model: nn.Module, pixel_mean: Sequence[float], pixel_std: Sequence[float]
) -> None:
    """Give a model the buffers ``pixel_mean`` and ``pixel_std``, ``(C, 1, 1)``, not saved with it.

    Raises:
        InputError: If there are not as many of one as of the other.
    """
    if len(pixel_mean) != len(pixel_std):
        raise InputError(
            f"{type(model).__name__}: pixel_mean and pixel_std need one number for each channel;"
            f" got {len(pixel_mean)} and {len(pixel_std)}"
        )
    for name, values in (("pixel_mean", pixel_mean), ("pixel_std", pixel_std)):
        buffer = torch.tensor(list(values), dtype=torch.float32).view(-1, 1, 1)
        model.register_buffer(name, buffer, persistent=False)


def image_batch(
    inputs: ImageDicts, backbone: Any, pixel_mean: torch.Tensor, pixel_std: torch.Tensor
) -> ImageList:
    """Normalise, pad and stack the images, on the device of ``pixel_mean``.

    Args:
        inputs: a dict for each image.
        backbone: whose ``size_divisibility`` and ``padding_constraints`` say how to pad.
        pixel_mean: ``(C, 1, 1)``.
        pixel_std: ``(C, 1, 1)``.

    Returns:
        ``(N, C, H, W)``, padded with zeros at the right and bottom as the backbone asks for.

    Raises:
        InputError: If the input is no list of dicts, or an image no ``(C, h, w)`` tensor with a
            channel for each ``pixel_mean``.
        MissingInputError: If there is no image.
    """
    kinds = [type(x).__name__ for x in inputs] if isinstance(inputs, list | tuple) else []
    if not kinds or not all(isinstance(one, dict) for one in inputs):
        raise InputError(
            "model input: expected a list with a dict for each image; got"
            f" {type(inputs).__name__} {kinds or ''}"
        )
    images = []
    num_channels = len(pixel_mean)
    for i, one in enumerate(inputs):
        image = one.get("image")
        if not isinstance(image, torch.Tensor):
            raise MissingInputError(
                f"model input {i}: expected a tensor (C, H, W) under 'image'; got"
                f" {type(image).__name__}; the dict has {sorted(map(str, one))}, see DatasetMapper"
            )
        # One channel is spread over several: a grey image may go through a model for colours.
        fits = len(image) == num_channels or 1 in (len(image), num_channels)
        if image.dim() != 3 or 0 in image.shape or not fits:
            raise InputError(
                f"model input {i}: 'image' must have shape ({num_channels}, H, W), with as many"
                f" channels as MODEL.PIXEL_MEAN has numbers; got {tuple(image.shape)}"
            )
        image = image.to(pixel_mean.device, non_blocking=True)
        images.append((image - pixel_mean) / pixel_std)
    return ImageList.from_tensors(
        images, backbone.size_divisibility, padding_constraints=backbone.padding_constraints
    )


def collect(inputs: ImageDicts, key: str, device: torch.device) -> list[Any]:
    """Collect what each image has under ``key``, on ``device``.

    Raises:
        MissingInputError: If an image lacks it.
    """
    without = [i for i, one in enumerate(inputs) if key not in one]
    if without:
        raise MissingInputError(
            f"model input {without[0]}: {key!r} is missing ({len(without)} of {len(inputs)} images"
            f" lack it); the dict has {sorted(map(str, inputs[without[0]]))}"
        )
    return [one[key].to(device) for one in inputs]


def label_maps(
    inputs: ImageDicts, backbone: Backbone, ignore_value: int, device: torch.device
) -> torch.Tensor:
    """Pad the label maps ``sem_seg`` as the images: ``(N, H, W)`` int64.

    Raises:
        InputError: If an image lacks it, or it isn't as large as the image.
    """
    maps = collect(inputs, "sem_seg", device)
    for i, (one, labels) in enumerate(zip(inputs, maps, strict=True)):
        if labels.shape != one["image"].shape[-2:]:
            raise InputError(
                f"model input {i}: 'sem_seg' must be as large as the image,"
                f" {tuple(one['image'].shape[-2:])}; got {tuple(labels.shape)}"
            )
    return ImageList.from_tensors(
        [labels.long() for labels in maps],
        backbone.size_divisibility,
        ignore_value,
        backbone.padding_constraints,
    ).tensor


def output_size(one: dict[str, Any], image_size: tuple[int, int]) -> tuple[int, int]:
    """Return the (height, width) that the output for an image is asked for in."""
    return one.get("height", image_size[0]), one.get("width", image_size[1])
