"""Building blocks of convolutional networks."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from retinue.layers.batch_norm import FrozenBatchNorm2d, get_norm
from retinue.layers.weight_init import c2_msra_fill
from retinue.layers.wrappers import Conv2d

__all__ = ["CNNBlockBase", "DepthwiseSeparableConv2d"]

Norm = str | Callable[[int], nn.Module] | None
Activation = Callable[[torch.Tensor], torch.Tensor] | None


class CNNBlockBase(nn.Module):
    """A block of which the rest of a network knows channels and stride.

    A subclass's ``forward`` maps ``(N, in_channels, H, W)`` to
    ``(N, out_channels, H / stride, W / stride)``.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        stride: input cells per output cell, along each axis.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.stride = stride

    def freeze(self) -> CNNBlockBase:
        """Stop training this block: no gradients for its parameters, batch norms frozen.

        Returns:
            The block itself.
        """
        self.requires_grad_(False)
        FrozenBatchNorm2d.convert_frozen_batchnorm(self)
        return self


class DepthwiseSeparableConv2d(nn.Module):
    """A convolution of each channel by itself, then a 1x1 convolution that mixes channels.

    Xception (https://arxiv.org/abs/1610.02357) puts norm and activation after the second only,
    MobileNet (https://arxiv.org/abs/1704.04861) after both.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: of the first convolution, as are ``padding`` and ``dilation``.
        norm1: norm after the first convolution, as ``get_norm`` takes it; with ``""`` or
            ``None`` the convolution has a bias.
        activation1: activation after the first norm.
        norm2: likewise after the second convolution.
        activation2: likewise.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        padding: int = 1,
        dilation: int = 1,
        *,
        norm1: Norm = None,
        activation1: Activation = None,
        norm2: Norm = None,
        activation2: Activation = None,
    ) -> None:
        super().__init__()
        self.depthwise = Conv2d(
            in_channels,
            in_channels,
            kernel_size,
            padding=padding,
            dilation=dilation,
            groups=in_channels,
            bias=not norm1,
            norm=get_norm(norm1, in_channels),
            activation=activation1,
        )
        self.pointwise = Conv2d(
            in_channels,
            out_channels,
            1,
            bias=not norm2,
            norm=get_norm(norm2, out_channels),
            activation=activation2,
        )
        for conv in (self.depthwise, self.pointwise):
            c2_msra_fill(conv)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(N, C, H, W)`` to ``(N, D, H', W')``."""
        return self.pointwise(self.depthwise(x))
