"""The larger head: context at several scales by dilated convolutions, then a chain of them.

Chen et al., "Rethinking Atrous Convolution" (2017), https://arxiv.org/abs/1706.05587, with group
normalisation; Wang et al., "Non-local Neural Networks" (2018), https://arxiv.org/abs/1711.07971.
Names of layers are those of the published weights.
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from retinue.config import CfgNode
from retinue.layers import Conv2d
from retinue.layers.weight_init import c2_msra_fill
from retinue.projects.densepose.modeling.roi_heads.registry import ROI_DENSEPOSE_HEAD_REGISTRY

__all__ = [
    "ASPP",
    "ROI_DENSEPOSE_HEAD_REGISTRY",
    "ASPPConv",
    "ASPPPooling",
    "DensePoseDeepLabHead",
    "NONLocalBlock2D",
]

NUM_GROUPS = 32
DILATIONS = (6, 12, 56)


class DensePoseDeepLabHead(nn.Module):
    """Spatial pyramid pooling, a non-local block if wanted, then stacked convolutions.

    Args:
        cfg: with ``MODEL.ROI_DENSEPOSE_HEAD``.
        input_channels: channels of the pooled regions.
    """

    def __init__(self, cfg: CfgNode, input_channels: int) -> None:
        super().__init__()
        head = cfg.MODEL.ROI_DENSEPOSE_HEAD
        dim, kernel, norm = head.CONV_HEAD_DIM, head.CONV_HEAD_KERNEL, head.DEEPLAB.NORM
        self.n_stacked_convs = head.NUM_STACKED_CONVS
        self.use_nonlocal = head.DEEPLAB.NONLOCAL_ON
        self.n_out_channels = dim
        self.ASPP = ASPP(input_channels, DILATIONS, input_channels)
        if self.use_nonlocal:
            self.NLBlock = NONLocalBlock2D(input_channels)
        for i in range(self.n_stacked_convs):
            conv = Conv2d(
                dim if i else input_channels,
                dim,
                kernel,
                padding=kernel // 2,
                bias=not norm,
                norm=nn.GroupNorm(NUM_GROUPS, dim) if norm == "GN" else None,
            )
            c2_msra_fill(conv)
            self.add_module(self._get_layer_name(i), conv)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Map ``(R, C, S, S)`` to ``(R, CONV_HEAD_DIM, S, S)``."""
        x = self.ASPP(features)
        if self.use_nonlocal:
            x = self.NLBlock(x)
        for i in range(self.n_stacked_convs):
            x = F.relu(getattr(self, self._get_layer_name(i))(x))
        return x

    def _get_layer_name(self, i: int) -> str:
        return f"body_conv_fcn{i + 1}"


def _norm_relu(channels: int) -> tuple[nn.Module, nn.Module]:
    return nn.GroupNorm(NUM_GROUPS, channels), nn.ReLU()


class ASPPConv(nn.Sequential):
    """A dilated 3x3 convolution, group normalisation and ReLU."""

    def __init__(self, in_channels: int, out_channels: int, dilation: int) -> None:
        conv = nn.Conv2d(
            in_channels, out_channels, 3, padding=dilation, dilation=dilation, bias=False
        )
        super().__init__(conv, *_norm_relu(out_channels))


class ASPPPooling(nn.Sequential):
    """The mean over the region, through a convolution, at every cell."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        super().__init__(nn.AdaptiveAvgPool2d(1), conv, *_norm_relu(out_channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(R, C, S, S)`` to ``(R, D, S, S)``."""
        mean = super().forward(x)  # (R, D, 1, 1)
        return mean.expand(-1, -1, *x.shape[2:])


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling.

    Args:
        in_channels: channels of the input.
        atrous_rates: dilation of each 3x3 convolution.
        out_channels: channels of each branch and of the output.
    """

    def __init__(self, in_channels: int, atrous_rates: Sequence[int], out_channels: int) -> None:
        super().__init__()
        conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.convs = nn.ModuleList(
            [
                nn.Sequential(conv, *_norm_relu(out_channels)),
                *(ASPPConv(in_channels, out_channels, rate) for rate in atrous_rates),
                ASPPPooling(in_channels, out_channels),
            ]
        )
        fused = len(self.convs) * out_channels
        self.project = nn.Sequential(nn.Conv2d(fused, out_channels, 1, bias=False), nn.ReLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(R, C, S, S)`` to ``(R, D, S, S)``."""
        return self.project(torch.cat([conv(x) for conv in self.convs], dim=1))


class NONLocalBlock2D(nn.Module):
    """Each cell attends to all others; starts as the identity.

    Args:
        in_channels: channels of the input, and of the output.
        inter_channels: channels of queries, keys and values; half of them by default.
        sub_sample: keys and values are those of a grid of half the size.
        bn_layer: normalise what is added to the input.
    """

    def __init__(
        self,
        in_channels: int,
        inter_channels: int | None = None,
        sub_sample: bool = True,
        bn_layer: bool = True,
    ) -> None:
        super().__init__()
        dim = inter_channels or max(in_channels // 2, 1)

        def sampled() -> nn.Module:
            conv = nn.Conv2d(in_channels, dim, 1)
            return nn.Sequential(conv, nn.MaxPool2d(2)) if sub_sample else conv

        back = nn.Conv2d(dim, in_channels, 1)
        norm = nn.GroupNorm(NUM_GROUPS, in_channels)
        self.g = sampled()
        self.W: nn.Module = nn.Sequential(back, norm) if bn_layer else back
        self.theta = nn.Conv2d(in_channels, dim, 1)
        self.phi = sampled()
        for parameter in (norm if bn_layer else back).parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(R, C, H, W)`` to the same shape."""
        value, query, key = (layer(x).flatten(2) for layer in (self.g, self.theta, self.phi))
        attention = (query.transpose(1, 2) @ key).softmax(dim=-1)  # (R, HW, cells sampled)
        mixed = (value @ attention.transpose(1, 2)).unflatten(2, x.shape[2:])
        return x + self.W(mixed)
