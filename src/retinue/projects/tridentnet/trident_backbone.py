"""A ResNet with one stage split into branches; its output is the branches as one larger batch.

Shapes
    N images; B branches in use; C channels; H, W rows and columns.
"""

from collections.abc import Callable, Sequence
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
from retinue.projects.tridentnet.trident_conv import TridentConv
from retinue.utils.errors import InputError, unknown_name

__all__ = ["TridentBottleneckBlock", "build_trident_resnet_backbone", "make_trident_stage"]


class TridentBottleneckBlock(CNNBlockBase):
    """A bottleneck whose 3x3 convolution has branches; all layers are shared by them.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        bottleneck_channels: channels of the 3x3 convolution.
        stride: of the block.
        num_groups: groups of the 3x3 convolution.
        norm: a name that ``get_norm`` knows, or a callable from channels to a module.
        stride_in_1x1: stride in the first 1x1 convolution instead of in the 3x3 one.
        num_branch: number of branches.
        dilations: of each branch.
        concat_output: join the branches along the batch, in the last block.
        test_branch_idx: the only branch used in inference; -1 for all.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        bottleneck_channels: int,
        stride: int = 1,
        num_groups: int = 1,
        norm: Any = "BN",
        stride_in_1x1: bool = False,
        num_branch: int = 3,
        dilations: Sequence[int] = (1, 2, 3),
        concat_output: bool = False,
        test_branch_idx: int = -1,
    ) -> None:
        super().__init__(in_channels, out_channels, stride)
        self.num_branch = num_branch
        self.concat_output = concat_output
        self.test_branch_idx = test_branch_idx
        stride_1x1, stride_3x3 = (stride, 1) if stride_in_1x1 else (1, stride)
        width = bottleneck_channels

        def conv_1x1(dim_in: int, dim_out: int, stride: int) -> Conv2d:
            layer = Conv2d(dim_in, dim_out, 1, stride, bias=False, norm=get_norm(norm, dim_out))
            c2_msra_fill(layer)
            return layer

        self.shortcut = None
        if in_channels != out_channels:
            self.shortcut = conv_1x1(in_channels, out_channels, stride)
        self.conv1 = conv_1x1(in_channels, width, stride_1x1)
        self.conv2 = TridentConv(
            width,
            width,
            kernel_size=3,
            stride=stride_3x3,
            paddings=dilations,
            dilations=dilations,
            groups=num_groups,
            num_branch=num_branch,
            test_branch_idx=test_branch_idx,
            norm=get_norm(norm, width),
        )
        c2_msra_fill(self.conv2)
        self.conv3 = conv_1x1(width, out_channels, 1)

    def forward(self, x: torch.Tensor | list[torch.Tensor]) -> Any:
        """Map ``(N, C, H, W)``, or that of each branch, to that of each branch.

        The last block joins the branches: ``(B N, D, H', W')``, branch by branch.
        """
        if isinstance(x, torch.Tensor):
            is_fast = not self.training and self.test_branch_idx != -1
            x = [x] * (1 if is_fast else self.num_branch)
        out = self.conv2([F.relu_(self.conv1(b)) for b in x])
        out = [self.conv3(F.relu_(b)) for b in out]
        shortcut = x if self.shortcut is None else [self.shortcut(b) for b in x]
        out = [F.relu_(a + b) for a, b in zip(out, shortcut, strict=True)]
        return torch.cat(out) if self.concat_output else out


def make_trident_stage(
    block_class: Callable[..., CNNBlockBase], num_blocks: int, **kwargs: Any
) -> list[CNNBlockBase]:
    """Make a stage like ``ResNet.make_stage``, whose last block joins the branches."""
    joins = [False] * (num_blocks - 1) + [True]
    return ResNet.make_stage(block_class, num_blocks, concat_output_per_block=joins, **kwargs)


def build_trident_resnet_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> ResNet:
    """Build the ResNet that ``cfg.MODEL.RESNETS`` and ``cfg.MODEL.TRIDENT`` describe.

    Raises:
        UnknownNameError: If there is no such depth or stage.
        InputError: If the split stage is deformable, or a dilation is not 1 or 2.
    """
    res, trident = cfg.MODEL.RESNETS, cfg.MODEL.TRIDENT
    names = ["res2", "res3", "res4", "res5"]
    if trident.TRIDENT_STAGE not in names:
        raise unknown_name("MODEL.TRIDENT.TRIDENT_STAGE", trident.TRIDENT_STAGE, names)
    if res.DEPTH not in (50, 101, 152):
        raise unknown_name("MODEL.RESNETS.DEPTH", str(res.DEPTH), ["50", "101", "152"])
    if res.RES5_DILATION not in (1, 2):
        raise InputError(f"MODEL.RESNETS.RES5_DILATION must be 1 or 2; got {res.RES5_DILATION}")
    if res.DEFORM_ON_PER_STAGE[names.index(trident.TRIDENT_STAGE)]:
        raise InputError(
            f"MODEL.TRIDENT.TRIDENT_STAGE {trident.TRIDENT_STAGE} has no deformable form; set its"
            f" place in MODEL.RESNETS.DEFORM_ON_PER_STAGE {res.DEFORM_ON_PER_STAGE} to False"
        )
    stem = BasicStem(input_shape.channels or 3, res.STEM_OUT_CHANNELS, res.NORM)
    in_channels, out_channels = res.STEM_OUT_CHANNELS, res.RES2_OUT_CHANNELS
    stages = []
    for i, (name, num_blocks) in enumerate(zip(names, BLOCKS_PER_STAGE[res.DEPTH], strict=True)):
        dilation = res.RES5_DILATION if name == "res5" else 1
        first_stride = 1 if i == 0 or dilation == 2 else 2
        options = {
            "in_channels": in_channels,
            "out_channels": out_channels,
            "bottleneck_channels": res.NUM_GROUPS * res.WIDTH_PER_GROUP * 2**i,
            "stride_per_block": [first_stride] + [1] * (num_blocks - 1),
            "num_groups": res.NUM_GROUPS,
            "norm": res.NORM,
            "stride_in_1x1": res.STRIDE_IN_1X1,
        }
        if name == trident.TRIDENT_STAGE:
            stage = make_trident_stage(
                TridentBottleneckBlock,
                num_blocks,
                num_branch=trident.NUM_BRANCH,
                dilations=trident.BRANCH_DILATIONS,
                test_branch_idx=trident.TEST_BRANCH_IDX,
                **options,
            )
        elif res.DEFORM_ON_PER_STAGE[i]:
            stage = ResNet.make_stage(
                DeformBottleneckBlock,
                num_blocks,
                dilation=dilation,
                deform_modulated=res.DEFORM_MODULATED,
                deform_num_groups=res.DEFORM_NUM_GROUPS,
                **options,
            )
        else:
            stage = ResNet.make_stage(BottleneckBlock, num_blocks, dilation=dilation, **options)
        stages.append(stage)
        in_channels, out_channels = out_channels, out_channels * 2
    return ResNet(
        stem, stages, out_features=res.OUT_FEATURES, freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT
    )
