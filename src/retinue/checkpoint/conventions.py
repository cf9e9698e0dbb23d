"""What weights take for granted about images, which no name or shape shows.

A model that sees colours in another order, pixels on another scale, or strides in another place
than its weights were trained with loads without an error and detects badly. ``check_conventions``
compares what is known of the weights with the model, and says what differs and which key to set.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

__all__ = ["TRAINED", "Trained", "check_conventions"]


@dataclass(frozen=True)
class Trained:
    """How weights were trained.

    Attributes:
        channels: order of colours, ``MODEL``'s ``INPUT.FORMAT``.
        mean, std: per channel in that order, of pixels from 0 to 255.
        stride_in_1x1: whether a bottleneck strides in its first 1x1 convolution, or in its 3x3;
            None where there is none.
    """

    channels: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    stride_in_1x1: bool | None = None


TRAINED = {
    # Caffe's ResNets: blue first, mean taken off, no division.
    "MSRA": Trained("BGR", (103.53, 116.28, 123.675), (1.0, 1.0, 1.0), True),
    # Detectron's ResNeXt from Torch 7.
    "X-101-32x8d": Trained("BGR", (103.53, 116.28, 123.675), (57.375, 57.12, 58.395), False),
    "torchvision": Trained("RGB", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375), False),
}


def check_conventions(model: nn.Module, trained: Trained) -> list[str]:
    """Say where a model treats images otherwise than its weights were trained.

    Args:
        model: with buffers ``pixel_mean`` and ``pixel_std``, and maybe ``input_format``; what it
            doesn't have isn't compared.
        trained: what the weights were trained with.

    Returns:
        One sentence for each difference, with the config key to set.
    """
    said = []
    channels = getattr(model, "input_format", None)
    if channels not in (None, trained.channels):
        said.append(
            f"the weights were trained on {trained.channels} images, the model is fed"
            f" {channels}: set INPUT.FORMAT to {trained.channels!r}"
        )
    for key, name, value in (
        ("MODEL.PIXEL_MEAN", "pixel_mean", trained.mean),
        ("MODEL.PIXEL_STD", "pixel_std", trained.std),
    ):
        buffer = getattr(model, name, None)
        if isinstance(buffer, torch.Tensor) and buffer.numel() == len(value):
            have = [round(float(v), 3) for v in buffer.flatten()]
            if any(abs(a - b) > 0.5 for a, b in zip(have, value, strict=True)):
                said.append(
                    f"the weights were trained with {name} {list(value)}, the model has"
                    f" {have}: set {key}"
                )
    strides = _stride_in_1x1(model)
    if None not in (strides, trained.stride_in_1x1) and strides != trained.stride_in_1x1:
        said.append(
            f"the weights stride in the {'1x1' if trained.stride_in_1x1 else '3x3'} convolution of"
            f" a block, the model in the {'1x1' if strides else '3x3'} one: set"
            f" MODEL.RESNETS.STRIDE_IN_1X1 to {trained.stride_in_1x1}"
        )
    return said


def _stride_in_1x1(model: nn.Module) -> bool | None:
    """Look at the first bottleneck that halves the resolution."""
    for name, module in model.named_modules():
        if name.endswith("res3.0") and hasattr(module, "conv3"):
            first: Any = module.conv1
            second: Any = module.conv2
            strides = [getattr(conv, "stride", (1, 1)) for conv in (first, second)]
            return None if strides[0] == strides[1] else strides[0] != (1, 1)
    return None
