"""A ResNet that keeps its resolution: the last stages dilate instead of striding."""

from typing import Any

import torch
from torch.nn import functional as F

from retinue.config import CfgNode
from retinue.layers import CNNBlockBase, Conv2d, ShapeSpec, get_norm
from retinue.layers.weight_init import c2_msra_fill
from retinue.modeling.backbone.resnet import (
    BLOCKS_PER_STAGE,
    BasicStem,
    BottleneckBlock,
    DeformBottleneckBlock,
    ResNet,
)
from retinue.utils.errors import InputError, unknown_name

__all__ = ["DeepLabStem", "build_resnet_deeplab_backbone"]


class DeepLabStem(CNNBlockBase):
    """Three 3x3 convolutions and a max pooling: stride 4, as one 7x7 convolution has it.

    Args:
        in_channels: channels of the images.
        out_channels: channels of the output; the first two convolutions have half of them.
        norm: a name that ``get_norm`` knows, or a callable from channels to a module.
    """

    def __init__(self, in_channels: int = 3, out_channels: int = 128, norm: Any = "BN") -> None:
        super().__init__(in_channels, out_channels, 4)
        half = out_channels // 2

        def conv(dim_in: int, dim_out: int, stride: int) -> Conv2d:
            layer = Conv2d(
                dim_in, dim_out, 3, stride, padding=1, bias=False, norm=get_norm(norm, dim_out)
            )
            c2_msra_fill(layer)
            return layer

        self.conv1 = conv(in_channels, half, 2)
        self.conv2 = conv(half, half, 1)
        self.conv3 = conv(half, out_channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(N, C, H, W)`` to ``(N, D, H / 4, W / 4)``."""
        for conv in (self.conv1, self.conv2, self.conv3):
            x = F.relu_(conv(x))
        return F.max_pool2d(x, kernel_size=3, stride=2, padding=1)


STEMS = {"basic": BasicStem, "deeplab": DeepLabStem}


def build_resnet_deeplab_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> ResNet:
    """Build the ResNet that ``cfg.MODEL.RESNETS`` describes, DeepLab's keys included.

    Raises:
        UnknownNameError: (a ``KeyError`` and ``ValueError``) If there is no such depth or stem.
        InputError: If dilations don't go together.
    """
    res = cfg.MODEL.RESNETS
    if res.STEM_TYPE not in STEMS:
        raise unknown_name("MODEL.RESNETS.STEM_TYPE", res.STEM_TYPE, STEMS)
    if res.DEPTH not in (50, 101, 152):
        raise unknown_name("MODEL.RESNETS.DEPTH of DeepLab", str(res.DEPTH), ["50", "101", "152"])
    if (res.RES4_DILATION, res.RES5_DILATION) not in ((1, 1), (1, 2), (1, 4), (2, 4)):
        raise InputError(
            "MODEL.RESNETS: expected RES4_DILATION 1 with RES5_DILATION 1, 2 or 4, or 2 with 4;"
            f" got {res.RES4_DILATION} with {res.RES5_DILATION}"
        )
    stem = STEMS[res.STEM_TYPE](input_shape.channels or 3, res.STEM_OUT_CHANNELS, res.NORM)
    dilations = [1, 1, res.RES4_DILATION, res.RES5_DILATION]
    in_channels, out_channels = res.STEM_OUT_CHANNELS, res.RES2_OUT_CHANNELS
    width = res.NUM_GROUPS * res.WIDTH_PER_GROUP

    stages = []
    for i, (num_blocks, dilation) in enumerate(
        zip(BLOCKS_PER_STAGE[res.DEPTH], dilations, strict=True)
    ):
        options: dict[str, Any] = {"block_class": BottleneckBlock}
        if res.DEFORM_ON_PER_STAGE[i]:
            options = {
                "block_class": DeformBottleneckBlock,
                "deform_modulated": res.DEFORM_MODULATED,
                "deform_num_groups": res.DEFORM_NUM_GROUPS,
            }
        grid = res.RES5_MULTI_GRID if i == 3 else [1] * num_blocks
        first_stride = 1 if i == 0 or dilation > 1 else 2
        stages.append(
            ResNet.make_stage(
                num_blocks=num_blocks,
                in_channels=in_channels,
                out_channels=out_channels,
                bottleneck_channels=width * 2**i,
                stride_per_block=[first_stride] + [1] * (num_blocks - 1),
                dilation_per_block=[dilation * factor for factor in grid],
                num_groups=res.NUM_GROUPS,
                norm=res.NORM,
                stride_in_1x1=res.STRIDE_IN_1X1,
                **options,
            )
        )
        in_channels, out_channels = out_channels, out_channels * 2
    return ResNet(
        stem, stages, out_features=res.OUT_FEATURES, freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT
    )
