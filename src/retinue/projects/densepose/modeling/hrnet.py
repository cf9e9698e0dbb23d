"""HRNet: parallel branches at four resolutions that keep exchanging what they find.

Sun et al., "Deep High-Resolution Representation Learning" (2019),
https://arxiv.org/abs/1902.09212; names of parameters as in HigherHRNet's published weights.

Shapes
    N images; branch b, counted from 0, has stride 4 * 2**b and C_b channels.

Reading order: PoseHigherResolutionNet.forward; each stage is a chain of HighResolutionModule.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from retinue.config import CfgNode
from retinue.layers import ShapeSpec
from retinue.modeling.backbone.backbone import Backbone
from retinue.modeling.catalog import BACKBONE_REGISTRY
from retinue.utils.errors import InputError

__all__ = [
    "BACKBONE_REGISTRY",
    "BN_MOMENTUM",
    "BasicBlock",
    "Bottleneck",
    "HighResolutionModule",
    "PoseHigherResolutionNet",
    "blocks_dict",
    "build_pose_hrnet_backbone",
    "conv3x3",
]

BN_MOMENTUM = 0.1


def conv3x3(in_planes: int, out_planes: int, stride: int = 1) -> nn.Conv2d:
    """Make a 3x3 convolution that keeps the size, or divides it by the stride."""
    return nn.Conv2d(in_planes, out_planes, 3, stride, padding=1, bias=False)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, momentum=BN_MOMENTUM)


def _project(dim_in: int, dim_out: int, stride: int) -> nn.Sequential | None:
    """Fit the shortcut of a residual block to its output, where the two differ."""
    if stride == 1 and dim_in == dim_out:
        return None
    return nn.Sequential(nn.Conv2d(dim_in, dim_out, 1, stride, bias=False), _norm(dim_out))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut.

    Args:
        inplanes: channels of the input.
        planes: channels of the output.
        stride: of the first convolution.
        downsample: applied to the shortcut.
    """

    expansion = 1

    def __init__(
        self, inplanes: int, planes: int, stride: int = 1, downsample: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.conv1 = conv3x3(inplanes, planes, stride)
        self.bn1 = _norm(planes)
        self.conv2 = conv3x3(planes, planes)
        self.bn2 = _norm(planes)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample
        self.stride = stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(N, C, H, W)`` to ``(N, D, H / stride, W / stride)``."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(x)) + shortcut)


class Bottleneck(nn.Module):
    """Convolutions 1x1, 3x3, 1x1 with a shortcut; the output has four times ``planes`` channels.

    Args:
        inplanes: channels of the input.
        planes: channels between the convolutions.
        stride: of the 3x3 convolution.
        downsample: applied to the shortcut.
    """

    expansion = 4

    def __init__(
        self, inplanes: int, planes: int, stride: int = 1, downsample: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, planes, 1, bias=False)
        self.bn1 = _norm(planes)
        self.conv2 = conv3x3(planes, planes, stride)
        self.bn2 = _norm(planes)
        self.conv3 = nn.Conv2d(planes, planes * self.expansion, 1, bias=False)
        self.bn3 = _norm(planes * self.expansion)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample
        self.stride = stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(N, C, H, W)`` to ``(N, 4 * D, H / stride, W / stride)``."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        return self.relu(self.bn3(self.conv3(x)) + shortcut)


blocks_dict: dict[str, type[BasicBlock] | type[Bottleneck]] = {
    "BASIC": BasicBlock,
    "BOTTLENECK": Bottleneck,
}


def _chain(block: Any, dim_in: int, planes: int, count: int, stride: int = 1) -> nn.Sequential:
    """Stack residual blocks, of which the first changes channels and resolution."""
    dim_out = planes * block.expansion
    first = block(dim_in, planes, stride, _project(dim_in, dim_out, stride))
    return nn.Sequential(first, *(block(dim_out, planes) for _ in range(count - 1)))


class HighResolutionModule(nn.Module):
    """Residual blocks in each branch, then every branch receives the sum over all of them.

    Args:
        num_branches: how many resolutions there are.
        blocks: class of the residual blocks, such as :class:`BasicBlock`.
        num_blocks: blocks of each branch.
        num_inchannels: channels that come in at each branch.
        num_channels: ``planes`` of each branch's blocks.
        multi_scale_output: return all branches, not only the finest.

    Raises:
        InputError: If a list has not one entry a branch.
    """

    def __init__(
        self,
        num_branches: int,
        blocks: Any,
        num_blocks: Sequence[int],
        num_inchannels: Sequence[int],
        num_channels: Sequence[int],
        multi_scale_output: bool = True,
    ) -> None:
        super().__init__()
        lists = {"blocks": num_blocks, "inchannels": num_inchannels, "channels": num_channels}
        for name, values in lists.items():
            if len(values) != num_branches:
                raise InputError(
                    f"HighResolutionModule: num_{name} must have an entry for each of"
                    f" {num_branches} branches; got {list(values)}"
                )
        self.num_branches = num_branches
        self.multi_scale_output = multi_scale_output
        self.branches = nn.ModuleList(
            _chain(blocks, *sizes)
            for sizes in zip(num_inchannels, num_channels, num_blocks, strict=True)
        )
        self.num_inchannels = [planes * blocks.expansion for planes in num_channels]
        self.fuse_layers = self._make_fuse_layers()
        self.relu = nn.ReLU(inplace=True)

    def _make_fuse_layers(self) -> nn.ModuleList | None:
        """Make the layer from each branch (inner index) to each output (outer index)."""
        if self.num_branches == 1:
            return None
        dims = self.num_inchannels
        return nn.ModuleList(
            nn.ModuleList(_resample(dims[j], dims[i], i - j) for j in range(self.num_branches))
            for i in range(self.num_branches if self.multi_scale_output else 1)
        )

    def get_num_inchannels(self) -> list[int]:
        """Return the channels of each branch's output."""
        return self.num_inchannels

    def forward(self, x: list[torch.Tensor]) -> list[torch.Tensor]:
        """Map ``(N, C_b, H_b, W_b)`` of each branch b to the same, finest first."""
        x = [branch(feature) for branch, feature in zip(self.branches, x, strict=True)]
        if self.fuse_layers is None:
            return x
        return [self.relu(self._sum(layers, x)) for layers in self.fuse_layers]

    def _sum(self, layers: Any, x: list[torch.Tensor]) -> torch.Tensor:
        total = layers[0](x[0])
        height, width = total.shape[2:]
        for layer, feature in zip(layers[1:], x[1:], strict=True):
            # twice a size that was rounded up is up to one cell too many
            total = total + layer(feature)[:, :, :height, :width]
        return total


def _resample(dim_in: int, dim_out: int, halvings: int) -> nn.Module:
    """Go from a branch to one ``halvings`` coarser; to a finer one if negative."""
    if halvings == 0:
        return nn.Identity()
    if halvings < 0:
        return nn.Sequential(
            nn.Conv2d(dim_in, dim_out, 1, bias=False),
            nn.BatchNorm2d(dim_out),
            nn.Upsample(scale_factor=2**-halvings, mode="nearest"),
        )
    steps = [_halve(dim_in, dim_in, nn.ReLU(inplace=True)) for _ in range(halvings - 1)]
    return nn.Sequential(*steps, _halve(dim_in, dim_out))


def _halve(dim_in: int, dim_out: int, *then: nn.Module) -> nn.Sequential:
    return nn.Sequential(conv3x3(dim_in, dim_out, stride=2), nn.BatchNorm2d(dim_out), *then)


class PoseHigherResolutionNet(Backbone):
    """The backbone: a stem of stride 4, then stages that each add a branch of half the resolution.

    Args:
        cfg: with ``MODEL.HRNET``; see :func:`.config.add_hrnet_config`.
        **kwargs: accepted and ignored.
    """

    def __init__(self, cfg: CfgNode, **kwargs: Any) -> None:
        super().__init__()
        hrnet = cfg.MODEL.HRNET
        self.inplanes = hrnet.STEM_INPLANES
        self.conv1 = conv3x3(3, 64, stride=2)
        self.bn1 = _norm(64)
        self.conv2 = conv3x3(64, 64, stride=2)
        self.bn2 = _norm(64)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = self._make_layer(Bottleneck, 64, 4)

        channels = [self.inplanes]
        for number, stage_cfg in enumerate((hrnet.STAGE2, hrnet.STAGE3, hrnet.STAGE4), start=2):
            expansion = blocks_dict[stage_cfg.BLOCK].expansion
            wanted = [planes * expansion for planes in stage_cfg.NUM_CHANNELS]
            transition = self._make_transition_layer(channels, wanted)
            stage, channels = self._make_stage(stage_cfg, wanted)
            self.add_module(f"transition{number - 1}", transition)
            setattr(self, f"stage{number}_cfg", stage_cfg)
            self.add_module(f"stage{number}", stage)

        names = [f"p{branch + 1}" for branch in range(hrnet.STAGE4.NUM_BRANCHES)]
        self._out_features = names
        self._out_feature_channels = dict(zip(names, channels, strict=True))
        self._out_feature_strides = {name: 4 * 2**branch for branch, name in enumerate(names)}

    def _make_layer(self, block: Any, planes: int, blocks: int, stride: int = 1) -> nn.Sequential:
        layers = _chain(block, self.inplanes, planes, blocks, stride)
        self.inplanes = planes * block.expansion
        return layers

    def _make_transition_layer(
        self, num_channels_pre_layer: Sequence[int], num_channels_cur_layer: Sequence[int]
    ) -> nn.ModuleList:
        """Make what leads to each branch of a stage; new ones start at the coarsest before."""
        before, after = num_channels_pre_layer, num_channels_cur_layer
        layers: list[nn.Module] = []
        for branch, dim_out in enumerate(after):
            if branch >= len(before):
                dims = [before[-1]] * (branch - len(before) + 1) + [dim_out]
                steps = (_halve(*pair, nn.ReLU(inplace=True)) for pair in zip(dims, dims[1:]))  # noqa: B905, RUF007
                layers.append(nn.Sequential(*steps))
            elif before[branch] != dim_out:
                layers.append(
                    nn.Sequential(
                        conv3x3(before[branch], dim_out),
                        nn.BatchNorm2d(dim_out),
                        nn.ReLU(inplace=True),
                    )
                )
            else:
                layers.append(nn.Identity())
        return nn.ModuleList(layers)

    def _make_stage(
        self,
        layer_config: CfgNode,
        num_inchannels: Sequence[int],
        multi_scale_output: bool = True,
    ) -> tuple[nn.Sequential, list[int]]:
        """Make the modules of a stage; return them and the channels of its branches."""
        count = layer_config.NUM_MODULES
        channels = list(num_inchannels)
        modules: list[nn.Module] = []
        for number in range(count):
            module = HighResolutionModule(
                layer_config.NUM_BRANCHES,
                blocks_dict[layer_config.BLOCK],
                layer_config.NUM_BLOCKS,
                channels,
                layer_config.NUM_CHANNELS,
                multi_scale_output or number < count - 1,
            )
            channels = module.get_num_inchannels()
            modules.append(module)
        return nn.Sequential(*modules), channels

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Map images ``(N, 3, H, W)`` to ``p1`` ``(N, C_0, H / 4, W / 4)``, ``p2``, ..."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        features = [self.layer1(x)]
        for number in (2, 3, 4):
            lead_in = getattr(self, f"transition{number - 1}")
            last = len(features) - 1
            starts = [lead(features[min(b, last)]) for b, lead in enumerate(lead_in)]
            features = getattr(self, f"stage{number}")(starts)
        return dict(zip(self._out_features, features, strict=True))


def build_pose_hrnet_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> PoseHigherResolutionNet:
    """Build the HRNet that ``cfg.MODEL.HRNET`` describes."""
    return PoseHigherResolutionNet(cfg)
