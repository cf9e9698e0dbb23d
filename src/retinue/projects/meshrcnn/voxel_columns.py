"""What the heads that predict voxels share: a column of values, along the line of sight, per cell.

Shapes
    N regions or images; C channels; H, W of their features; D steps of all columns of a cell.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from retinue.layers import Conv2d, ConvTranspose2d, get_norm
from retinue.layers.weight_init import c2_msra_fill

__all__ = ["VoxelColumns"]


class VoxelColumns(nn.Module):
    """3x3 convolutions, one transposed convolution that doubles the size, a 1x1 convolution.

    Args:
        channels: C.
        num_steps: D.
        conv_dim: width of all layers.
        num_conv: how many 3x3 convolutions.
        norm: after each of them, as :func:`retinue.layers.get_norm` takes it.
    """

    def __init__(
        self, channels: int, num_steps: int, *, conv_dim: int, num_conv: int, norm: str
    ) -> None:
        super().__init__()
        self.conv_norm_relus = []
        for k in range(1, num_conv + 1):
            layer = Conv2d(
                channels,
                conv_dim,
                kernel_size=3,
                padding=1,
                bias=not norm,
                norm=get_norm(norm, conv_dim),
                activation=F.relu,
            )
            c2_msra_fill(layer)
            self.add_module(f"voxel_fcn{k}", layer)
            self.conv_norm_relus.append(layer)
            channels = conv_dim
        self.deconv = ConvTranspose2d(channels, conv_dim, kernel_size=2, stride=2)
        self.predictor = Conv2d(conv_dim, num_steps, kernel_size=1)
        c2_msra_fill(self.deconv)
        nn.init.normal_(self.predictor.weight, std=0.001)
        if self.predictor.bias is not None:
            nn.init.zeros_(self.predictor.bias)

    def columns(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(N, C, H, W)`` to ``(N, D, 2 H, 2 W)`` logits."""
        for layer in self.conv_norm_relus:
            x = layer(x)
        columns: torch.Tensor = self.predictor(self.deconv(x).relu())
        return columns
