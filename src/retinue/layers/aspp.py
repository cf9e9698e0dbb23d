"""Atrous spatial pyramid pooling: context of an image at several scales."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

import torch
from torch import nn
from torch.nn import functional as F

from retinue.layers.batch_norm import get_norm
from retinue.layers.blocks import Activation, DepthwiseSeparableConv2d, Norm
from retinue.layers.weight_init import c2_xavier_fill
from retinue.layers.wrappers import Conv2d
from retinue.utils.errors import InputError

__all__ = ["ASPP"]


class ASPP(nn.Module):
    """Five views of a feature map, side by side: 1x1, three dilated 3x3, and its average.

    Chen et al., "Rethinking Atrous Convolution" (2017), https://arxiv.org/abs/1706.05587.

    Args:
        in_channels: channels of the input.
        out_channels: channels of each view and of the output.
        dilations: of the three 3x3 convolutions.
        norm: after every convolution but that of the average, as ``get_norm`` takes it.
        activation: after every norm; each place gets its own copy.
        pool_kernel_size: (height, width) of the window that is averaged, which has to divide the
            input; the whole input if ``None``.
        dropout: probability of dropping an element of the output in training.
        use_depthwise_separable_conv: make the 3x3 convolutions depthwise separable, as
            DeepLabV3+ does (https://arxiv.org/abs/1802.02611).

    Raises:
        InputError: If ``dilations`` isn't three numbers.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        dilations: Sequence[int],
        *,
        norm: Norm,
        activation: Activation,
        pool_kernel_size: tuple[int, int] | None = None,
        dropout: float = 0.0,
        use_depthwise_separable_conv: bool = False,
    ) -> None:
        super().__init__()
        if len(dilations) != 3:
            raise InputError(f"ASPP: dilations must be 3 numbers; got {dilations!r}")
        self.pool_kernel_size = pool_kernel_size
        self.dropout = dropout

        def conv(in_channels: int, kernel_size: int, dilation: int = 1) -> Conv2d:
            layer = Conv2d(
                in_channels,
                out_channels,
                kernel_size,
                padding=dilation * (kernel_size // 2),
                dilation=dilation,
                bias=norm == "",
                norm=get_norm(norm, out_channels),
                activation=deepcopy(activation),
            )
            c2_xavier_fill(layer)
            return layer

        def separable_conv(dilation: int) -> DepthwiseSeparableConv2d:
            return DepthwiseSeparableConv2d(
                in_channels,
                out_channels,
                padding=dilation,
                dilation=dilation,
                norm1=norm,
                activation1=deepcopy(activation),
                norm2=norm,
                activation2=deepcopy(activation),
            )

        pool: nn.Module = nn.AdaptiveAvgPool2d(1)
        if pool_kernel_size is not None:
            pool = nn.AvgPool2d(pool_kernel_size, stride=1)
        pooled_conv = Conv2d(in_channels, out_channels, 1, activation=deepcopy(activation))
        c2_xavier_fill(pooled_conv)

        self.convs = nn.ModuleList([conv(in_channels, 1)])
        for dilation in dilations:
            self.convs.append(
                separable_conv(dilation)
                if use_depthwise_separable_conv
                else conv(in_channels, 3, dilation)
            )
        self.convs.append(nn.Sequential(pool, pooled_conv))
        self.project = conv(5 * out_channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(N, C, H, W)`` to ``(N, D, H, W)``.

        Raises:
            ValueError: If ``pool_kernel_size`` doesn't divide (H, W).
        """
        size_hw = x.shape[-2:]
        window = self.pool_kernel_size
        if window is not None and (size_hw[0] % window[0] or size_hw[1] % window[1]):
            raise ValueError(
                f"ASPP: pool_kernel_size must divide the input's height and width;"
                f" got {window} for an input of {tuple(size_hw)}"
            )
        views = [conv(x) for conv in self.convs]  # (N, D, H, W) each, the last one smaller
        views[-1] = F.interpolate(views[-1], size_hw, mode="bilinear", align_corners=False)
        x = self.project(torch.cat(views, dim=1))
        return F.dropout(x, self.dropout, self.training) if self.dropout > 0 else x
