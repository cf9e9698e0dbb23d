"""ResNet and ResNeXt, with dilated and deformable stages.

Shapes
    N images; C channels; H, W rows and columns. The stem has stride 4, res2 stride 4, and each
    later stage doubles it: res5 has stride 32, or 16 when it is dilated instead.

Reading order: ResNet strings stem and stages together; a stage is a row of blocks, made by
make_stage; BottleneckBlock is the block of depth 50 and more. Module names are those of
checkpoints: ``res3.0.conv2.norm.weight``.

Source: He et al., "Deep Residual Learning" (2015), https://arxiv.org/abs/1512.03385; ResNeXt:
https://arxiv.org/abs/1611.05431; deformable stages: https://arxiv.org/abs/1811.11168.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import nn

from retinue.layers import (
    CNNBlockBase,
    Conv2d,
    DeformConv,
    ModulatedDeformConv,
    ShapeSpec,
    get_norm,
    weight_init,
)
from retinue.modeling.backbone.backbone import Backbone
from retinue.modeling.catalog import BACKBONE_REGISTRY
from retinue.utils.errors import InputError, expect_shape, unknown_name

if TYPE_CHECKING:
    from retinue.config import CfgNode

__all__ = [
    "BACKBONE_REGISTRY",
    "BasicBlock",
    "BasicStem",
    "BottleneckBlock",
    "DeformBottleneckBlock",
    "ResNet",
    "ResNetBlockBase",
    "build_resnet_backbone",
    "make_stage",
]

ResNetBlockBase = CNNBlockBase  # the name that older projects import

Norm = str | Callable[[int], nn.Module]

BLOCKS_PER_STAGE = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}


def _conv(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    norm: Norm,
    *,
    stride: int = 1,
    groups: int = 1,
    dilation: int = 1,
) -> Conv2d:
    """Make a convolution without bias that keeps the size (at stride 1), and its norm."""
    return Conv2d(
        in_channels,
        out_channels,
        kernel_size=kernel_size,
        stride=stride,
        padding=dilation * (kernel_size // 2),
        dilation=dilation,
        groups=groups,
        bias=False,
        norm=get_norm(norm, out_channels),
    )


def _fill(*convs: nn.Module | None) -> None:
    """Draw the weights of a block, once all of it is made: a seed then gives detectron2's."""
    for conv in convs:
        if conv is not None:
            weight_init.c2_msra_fill(conv)


def _shortcut(in_channels: int, out_channels: int, stride: int, norm: Norm) -> Conv2d | None:
    if in_channels == out_channels:
        return None
    return _conv(in_channels, out_channels, 1, norm, stride=stride)


class BasicBlock(CNNBlockBase):
    """Two 3x3 convolutions and a shortcut: the block of ResNet-18 and 34.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        stride: of the first convolution and the shortcut.
        norm: a name that ``get_norm`` knows, or a callable from channels to a module.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, stride: int = 1, norm: Norm = "BN"
    ) -> None:
        super().__init__(in_channels, out_channels, stride)
        self.shortcut = _shortcut(in_channels, out_channels, stride, norm)
        self.conv1 = _conv(in_channels, out_channels, 3, norm, stride=stride)
        self.conv2 = _conv(out_channels, out_channels, 3, norm)
        _fill(self.conv1, self.conv2, self.shortcut)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.conv2(F.relu_(self.conv1(x)))
        out += x if self.shortcut is None else self.shortcut(x)
        return F.relu_(out)


class BottleneckBlock(CNNBlockBase):
    """1x1, 3x3 and 1x1 convolutions and a shortcut: the block of ResNet-50 and deeper.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        bottleneck_channels: channels of the 3x3 convolution.
        stride: of the block.
        num_groups: groups of the 3x3 convolution; more than one makes a ResNeXt.
        norm: a name that ``get_norm`` knows, or a callable from channels to a module.
        stride_in_1x1: stride in the first 1x1 convolution, as in the original (MSRA) models,
            instead of in the 3x3 one.
        dilation: of the 3x3 convolution.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        bottleneck_channels: int,
        stride: int = 1,
        num_groups: int = 1,
        norm: Norm = "BN",
        stride_in_1x1: bool = False,
        dilation: int = 1,
    ) -> None:
        super().__init__(in_channels, out_channels, stride)
        stride_1x1, stride_3x3 = (stride, 1) if stride_in_1x1 else (1, stride)
        width = bottleneck_channels
        self.shortcut = _shortcut(in_channels, out_channels, stride, norm)
        self.conv1 = _conv(in_channels, width, 1, norm, stride=stride_1x1)
        self.conv2 = _conv(
            width, width, 3, norm, stride=stride_3x3, groups=num_groups, dilation=dilation
        )
        self.conv3 = _conv(width, out_channels, 1, norm)
        _fill(self.conv1, self.conv2, self.conv3, self.shortcut)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = F.relu_(self.conv1(x))
        out = F.relu_(self.conv2(out))
        out = self.conv3(out)
        out += x if self.shortcut is None else self.shortcut(x)
        return F.relu_(out)


class DeformBottleneckBlock(CNNBlockBase):
    """A bottleneck whose 3x3 convolution samples at learned offsets.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        bottleneck_channels: channels of the 3x3 convolution.
        stride: of the block.
        num_groups: groups of the 3x3 convolution.
        norm: a name that ``get_norm`` knows, or a callable from channels to a module.
        stride_in_1x1: stride in the first 1x1 convolution instead of in the 3x3 one.
        dilation: of the 3x3 convolution.
        deform_modulated: each sample has a learned weight, too (version 2 of the paper).
        deform_num_groups: groups of channels, each with offsets of its own.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        bottleneck_channels: int,
        stride: int = 1,
        num_groups: int = 1,
        norm: Norm = "BN",
        stride_in_1x1: bool = False,
        dilation: int = 1,
        deform_modulated: bool = False,
        deform_num_groups: int = 1,
    ) -> None:
        super().__init__(in_channels, out_channels, stride)
        self.deform_modulated = deform_modulated
        stride_1x1, stride_3x3 = (stride, 1) if stride_in_1x1 else (1, stride)
        width = bottleneck_channels
        self.shortcut = _shortcut(in_channels, out_channels, stride, norm)
        self.conv1 = _conv(in_channels, width, 1, norm, stride=stride_1x1)
        place: dict[str, Any] = {
            "kernel_size": 3,
            "stride": stride_3x3,
            "padding": dilation,
            "dilation": dilation,
        }
        # For each of the 9 samples a shift in y and x, and a weight if modulated.
        num_offsets = deform_num_groups * (27 if deform_modulated else 18)
        self.conv2_offset = Conv2d(width, num_offsets, **place)
        deform_conv = ModulatedDeformConv if deform_modulated else DeformConv
        self.conv2 = deform_conv(
            width,
            width,
            groups=num_groups,
            deformable_groups=deform_num_groups,
            bias=False,
            norm=get_norm(norm, width),
            **place,
        )
        self.conv3 = _conv(width, out_channels, 1, norm)
        _fill(self.conv1, self.conv2, self.conv3, self.shortcut)
        for parameter in self.conv2_offset.parameters():
            nn.init.zeros_(parameter)  # begins as an ordinary convolution

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = F.relu_(self.conv1(x))
        offset = self.conv2_offset(out)  # (N, 18 G or 27 G, H, W)
        if self.deform_modulated:
            num_shifts = offset.shape[1] // 3 * 2
            shift, weight = offset[:, :num_shifts], offset[:, num_shifts:].sigmoid()
            out = self.conv2(out, shift, weight)
        else:
            out = self.conv2(out, offset)
        out = self.conv3(F.relu_(out))
        out += x if self.shortcut is None else self.shortcut(x)
        return F.relu_(out)


class BasicStem(CNNBlockBase):
    """A 7x7 convolution and a max pooling, each of stride 2: the beginning of a ResNet.

    Args:
        in_channels: channels of the images.
        out_channels: channels of the output.
        norm: a name that ``get_norm`` knows, or a callable from channels to a module.
    """

    def __init__(self, in_channels: int = 3, out_channels: int = 64, norm: Norm = "BN") -> None:
        super().__init__(in_channels, out_channels, 4)
        self.conv1 = _conv(in_channels, out_channels, 7, norm, stride=2)
        _fill(self.conv1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.max_pool2d(F.relu_(self.conv1(x)), kernel_size=3, stride=2, padding=1)


class ResNet(Backbone):
    """A stem and stages of residual blocks, named res2, res3, ...

    Args:
        stem: maps images to the input of the first stage; has ``out_channels`` and ``stride``.
        stages: rows of blocks, finest first. Stages behind the last one that ``out_features``
            asks for are left out.
        num_classes: if given, a classifier named ``linear`` follows the last stage.
        out_features: which outputs ``forward`` returns: ``"stem"``, ``"res2"``, ...,
            ``"linear"``; by default the last one.
        freeze_at: how many stages to freeze, see ``freeze``.

    Raises:
        InputError: If a stage is empty or holds another kind of module, or an output is asked for
            that there isn't.
    """

    def __init__(
        self,
        stem: CNNBlockBase,
        stages: Sequence[Sequence[CNNBlockBase]],
        num_classes: int | None = None,
        out_features: Sequence[str] | None = None,
        freeze_at: int = 0,
    ) -> None:
        super().__init__()
        self.stem = stem
        self.num_classes = num_classes
        self._out_feature_channels = {"stem": stem.out_channels}
        self._out_feature_strides = {"stem": stem.stride}

        names = [f"res{i}" for i in range(2, 2 + len(stages))]
        wanted = set(names if out_features is None or num_classes is not None else out_features)
        num_stages = max((i + 1 for i, name in enumerate(names) if name in wanted), default=0)
        self.stage_names = tuple(names[:num_stages])
        channels, stride = stem.out_channels, stem.stride
        for name, blocks in zip(self.stage_names, stages, strict=False):
            if not blocks or not all(isinstance(block, CNNBlockBase) for block in blocks):
                kinds = sorted({type(block).__name__ for block in blocks})
                raise InputError(
                    f"ResNet: {name} needs at least one block, each a CNNBlockBase; got {kinds}"
                )
            self.add_module(name, nn.Sequential(*blocks))
            channels = blocks[-1].out_channels
            stride *= math.prod(block.stride for block in blocks)
            self._out_feature_channels[name] = channels
            self._out_feature_strides[name] = stride

        if num_classes is not None:
            self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
            self.linear = nn.Linear(channels, num_classes)
            # Section 5.1 of Goyal et al. (2017), https://arxiv.org/abs/1706.02677
            nn.init.normal_(self.linear.weight, std=0.01)

        outputs = ["stem", *self.stage_names, *(["linear"] if num_classes is not None else [])]
        self._out_features = outputs[-1:] if out_features is None else list(out_features)
        unknown = [name for name in self._out_features if name not in outputs]
        if unknown or not self._out_features:
            raise InputError(
                f"ResNet: out_features must name some of {outputs}; got {self._out_features}"
            )
        self.freeze(freeze_at)

    @property
    def stages(self) -> list[nn.Sequential]:
        """The stages, finest first."""
        return [getattr(self, name) for name in self.stage_names]

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Map images ``(N, C, H, W)`` to the feature maps named by ``out_features``."""
        expect_shape("ResNet: x", x, ("N", "C", "H", "W"))
        outputs = {"stem": self.stem(x)}
        x = outputs["stem"]
        for name in self.stage_names:
            x = outputs[name] = getattr(self, name)(x)  # (N, D, H / stride, W / stride)
        if self.num_classes is not None:
            outputs["linear"] = self.linear(self.avgpool(x).flatten(start_dim=1))  # (N, classes)
        return {name: outputs[name] for name in self._out_features}

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Return channels and stride of each output; those of ``linear`` are not defined."""
        return {
            name: ShapeSpec(
                channels=self._out_feature_channels[name], stride=self._out_feature_strides[name]
            )
            for name in self._out_features
        }

    def freeze(self, freeze_at: int = 0) -> ResNet:
        """Freeze the first ``freeze_at`` stages: 1 is the stem, 2 the stem and res2, and so on.

        Frozen are the parameters, and norms become ``FrozenBatchNorm2d``.
        """
        if freeze_at >= 1:
            self.stem.freeze()
        block: Any
        for stage in self.stages[: max(freeze_at - 1, 0)]:
            for block in stage:
                block.freeze()
        return self

    @staticmethod
    def make_stage(
        block_class: Callable[..., CNNBlockBase],
        num_blocks: int,
        *,
        in_channels: int,
        out_channels: int,
        **kwargs: Any,
    ) -> list[CNNBlockBase]:
        """Make the blocks of one stage.

        Args:
            block_class: called once a block.
            num_blocks: how many.
            in_channels: channels that the first block takes.
            out_channels: channels that every block gives.
            **kwargs: passed to each block. A name that ends in ``_per_block`` holds a list, one
                value for each block, passed under the name without the ending.

        Raises:
            InputError: If such a list has another length, or both forms of a name are given.

        Example:
            >>> blocks = ResNet.make_stage(
            ...     BasicBlock, 2, in_channels=8, out_channels=16, stride_per_block=[2, 1]
            ... )
            >>> [(block.in_channels, block.stride) for block in blocks]
            [(8, 2), (16, 1)]
        """
        suffix = "_per_block"
        shared = {k: v for k, v in kwargs.items() if not k.endswith(suffix)}
        varied = {k.removesuffix(suffix): v for k, v in kwargs.items() if k.endswith(suffix)}
        for name, values in varied.items():
            if name in shared:
                raise InputError(f"make_stage: give {name} or {name}{suffix}, not both")
            if len(values) != num_blocks:
                raise InputError(
                    f"make_stage: {name}{suffix} needs one value for each of {num_blocks} blocks;"
                    f" got {len(values)}"
                )
        blocks = []
        for i in range(num_blocks):
            own = {name: values[i] for name, values in varied.items()}
            blocks.append(
                block_class(in_channels=in_channels, out_channels=out_channels, **shared, **own)
            )
            in_channels = out_channels
        return blocks

    @staticmethod
    def make_default_stages(
        depth: int, block_class: Callable[..., CNNBlockBase] | None = None, **kwargs: Any
    ) -> list[list[CNNBlockBase]]:
        """Make the four stages of the paper's table 1.

        Args:
            depth: 18, 34, 50, 101 or 152.
            block_class: by default ``BasicBlock`` below depth 50, else ``BottleneckBlock``.
            **kwargs: passed to ``make_stage``; strides and channels follow from the depth.

        Raises:
            UnknownNameError: If there is no such depth.
        """
        is_deep = depth >= 50
        block_class = block_class or (BottleneckBlock if is_deep else BasicBlock)
        in_channels, stages = 64, []
        for i, num_blocks in enumerate(_blocks_per_stage(depth)):
            out_channels = (256 if is_deep else 64) * 2**i
            if is_deep:
                kwargs["bottleneck_channels"] = out_channels // 4
            stages.append(
                ResNet.make_stage(
                    block_class,
                    num_blocks,
                    stride_per_block=[1 if i == 0 else 2] + [1] * (num_blocks - 1),
                    in_channels=in_channels,
                    out_channels=out_channels,
                    **kwargs,
                )
            )
            in_channels = out_channels
        return stages


def _blocks_per_stage(depth: int) -> tuple[int, ...]:
    if depth not in BLOCKS_PER_STAGE:
        raise unknown_name("ResNet depth", str(depth), map(str, BLOCKS_PER_STAGE))
    return BLOCKS_PER_STAGE[depth]


def make_stage(*args: Any, **kwargs: Any) -> list[CNNBlockBase]:
    """Call ``ResNet.make_stage``; kept for projects that import it.

    Up to detectron2 0.3 the third argument, ``first_stride``, was that of the first block.
    """
    if len(args) == 3:
        *args, kwargs["first_stride"] = args  # type: ignore[assignment] # a list from now on
    first_stride = kwargs.pop("first_stride", None)
    if first_stride is not None:
        num_blocks = args[1] if len(args) > 1 else kwargs["num_blocks"]
        kwargs["stride_per_block"] = [first_stride] + [1] * (num_blocks - 1)
    return ResNet.make_stage(*args, **kwargs)


def build_resnet_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> ResNet:
    """Build the ResNet that ``cfg.MODEL.RESNETS`` describes.

    Raises:
        UnknownNameError: If there is no such depth.
        InputError: If the depth and other options don't go together.
    """
    res = cfg.MODEL.RESNETS
    _check_options(res)
    stem = BasicStem(input_shape.channels or 3, res.STEM_OUT_CHANNELS, res.NORM)
    in_channels, out_channels = res.STEM_OUT_CHANNELS, res.RES2_OUT_CHANNELS
    width = res.NUM_GROUPS * res.WIDTH_PER_GROUP

    stages = []
    for i, num_blocks in enumerate(_blocks_per_stage(res.DEPTH)):
        dilation = res.RES5_DILATION if i == 3 else 1
        first_stride = 1 if i == 0 or dilation == 2 else 2
        options: dict[str, Any] = {"block_class": BasicBlock, "norm": res.NORM}
        if res.DEPTH >= 50:
            options |= {
                "block_class": BottleneckBlock,
                "bottleneck_channels": width * 2**i,
                "num_groups": res.NUM_GROUPS,
                "stride_in_1x1": res.STRIDE_IN_1X1,
                "dilation": dilation,
            }
        if res.DEFORM_ON_PER_STAGE[i]:
            options |= {
                "block_class": DeformBottleneckBlock,
                "deform_modulated": res.DEFORM_MODULATED,
                "deform_num_groups": res.DEFORM_NUM_GROUPS,
            }
        stages.append(
            ResNet.make_stage(
                num_blocks=num_blocks,
                in_channels=in_channels,
                out_channels=out_channels,
                stride_per_block=[first_stride] + [1] * (num_blocks - 1),
                **options,
            )
        )
        in_channels, out_channels = out_channels, out_channels * 2
    return ResNet(
        stem, stages, out_features=res.OUT_FEATURES, freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT
    )


def _check_options(res: CfgNode) -> None:
    """Refuse values of ``cfg.MODEL.RESNETS`` that don't go together."""
    wrong = []
    if res.RES5_DILATION not in (1, 2):
        wrong.append(f"RES5_DILATION must be 1 or 2; got {res.RES5_DILATION}")
    if res.DEPTH in (18, 34):
        if res.RES2_OUT_CHANNELS not in (64, res.STEM_OUT_CHANNELS):  # narrower than published
            wrong.append(
                f"depth {res.DEPTH} needs RES2_OUT_CHANNELS 64; got {res.RES2_OUT_CHANNELS}"
            )
        if any(res.DEFORM_ON_PER_STAGE):
            wrong.append(f"depth {res.DEPTH} has no deformable blocks; set DEFORM_ON_PER_STAGE")
        if res.RES5_DILATION != 1:
            wrong.append(f"depth {res.DEPTH} needs RES5_DILATION 1; got {res.RES5_DILATION}")
        if res.NUM_GROUPS != 1:
            wrong.append(f"depth {res.DEPTH} needs NUM_GROUPS 1; got {res.NUM_GROUPS}")
    if wrong:
        raise InputError("MODEL.RESNETS: " + "; ".join(wrong))
