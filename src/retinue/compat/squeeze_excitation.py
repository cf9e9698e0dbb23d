"""Blocks that weigh channels or places, as ``fvcore.nn`` offers them.

Hu et al., "Squeeze-and-Excitation Networks" (2018), https://arxiv.org/abs/1709.01507, and Roy et
al. (2018), https://arxiv.org/abs/1803.02579, for the spatial ones. Shapes: N samples, C channels,
then H, W or T, H, W.
"""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["ChannelSpatialSqueezeExcitation", "SpatialSqueezeExcitation", "SqueezeExcitation"]


class SqueezeExcitation(nn.Module):
    """Multiply each channel by a weight computed from the means of all channels.

    Args:
        num_channels: C.
        num_channels_reduced: width of the layer between; ``C / reduction_ratio`` by default.
        reduction_ratio: see above.
        is_3d: the input is ``(N, C, T, H, W)``, not ``(N, C, H, W)``.
        activation: after the first layer; ReLU by default.
    """

    def __init__(
        self,
        num_channels: int,
        num_channels_reduced: int | None = None,
        reduction_ratio: float = 2.0,
        is_3d: bool = False,
        activation: nn.Module | None = None,
    ) -> None:
        super().__init__()
        reduced = num_channels_reduced or int(num_channels // reduction_ratio)
        conv = nn.Conv3d if is_3d else nn.Conv2d
        self.is_3d = is_3d
        self.block = nn.Sequential(
            conv(num_channels, reduced, kernel_size=1),
            activation or nn.ReLU(),
            conv(reduced, num_channels, kernel_size=1),
            nn.Sigmoid(),
        )

    def forward(self, input_tensor: torch.Tensor) -> torch.Tensor:
        """Weigh the channels of ``(N, C, ...)``."""
        axes = [2, 3, 4] if self.is_3d else [2, 3]
        weights: torch.Tensor = self.block(input_tensor.mean(dim=axes, keepdim=True))
        return input_tensor * weights


class SpatialSqueezeExcitation(nn.Module):
    """Multiply each place by a weight computed from its channels."""

    def __init__(self, num_channels: int, is_3d: bool = False) -> None:
        super().__init__()
        conv = nn.Conv3d if is_3d else nn.Conv2d
        self.block = nn.Sequential(conv(num_channels, 1, kernel_size=1), nn.Sigmoid())

    def forward(self, input_tensor: torch.Tensor) -> torch.Tensor:
        """Weigh the places of ``(N, C, ...)``."""
        weights: torch.Tensor = self.block(input_tensor)
        return input_tensor * weights


class ChannelSpatialSqueezeExcitation(nn.Module):
    """The larger of what weighing channels and weighing places gives; see the other classes."""

    def __init__(
        self,
        num_channels: int,
        num_channels_reduced: int | None = None,
        reduction_ratio: float = 16.0,
        is_3d: bool = False,
        activation: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.channel = SqueezeExcitation(
            num_channels, num_channels_reduced, reduction_ratio, is_3d, activation
        )
        self.spatial = SpatialSqueezeExcitation(num_channels, is_3d)

    def forward(self, input_tensor: torch.Tensor) -> torch.Tensor:
        """Weigh ``(N, C, ...)``."""
        return torch.max(self.channel(input_tensor), self.spatial(input_tensor))
