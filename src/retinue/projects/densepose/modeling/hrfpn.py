"""A feature pyramid for HRNet: all branches, enlarged to the finest, then shrunk level by level.

Sun et al., "High-Resolution Representations for Labeling Pixels and Regions" (2019),
https://arxiv.org/abs/1904.04514; here with learnt enlarging and shrinking.

Shapes
    N images; branch b of HRNet has stride 4 * 2**b; D channels of the pyramid, whose level p<k>
    has stride 2**(k + 1).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from retinue.config import CfgNode
from retinue.layers import ShapeSpec
from retinue.modeling.backbone.backbone import Backbone
from retinue.modeling.catalog import BACKBONE_REGISTRY
from retinue.projects.densepose.modeling.hrnet import build_pose_hrnet_backbone
from retinue.utils.errors import InputError

__all__ = ["BACKBONE_REGISTRY", "HRFPN", "build_hrfpn_backbone"]


class HRFPN(Backbone):
    """The pyramid.

    Args:
        bottom_up: a backbone whose outputs' strides double from one to the next.
        in_features: its outputs to use, finest first.
        n_out_features: how many levels to make.
        in_channels: channels of ``in_features``, a list.
        out_channels: channels of each level.
        pooling: ``"AVG"`` or ``"MAX"``; kept in ``pooling``, which convolutions have replaced.
        share_conv: one convolution makes the output of all levels.

    Raises:
        InputError: If ``in_channels`` is not a list with one entry for each input.
    """

    def __init__(
        self,
        bottom_up: nn.Module,
        in_features: Sequence[str],
        n_out_features: int,
        in_channels: Sequence[int],
        out_channels: int,
        pooling: str = "AVG",
        share_conv: bool = False,
    ) -> None:
        super().__init__()
        if not isinstance(in_channels, list) or len(in_channels) != len(in_features):
            raise InputError(
                f"HRFPN: in_channels must be a list with a number for each of {list(in_features)};"
                f" got {in_channels!r}"
            )
        self.bottom_up = bottom_up
        self.in_features = in_features
        self.n_out_features = n_out_features
        self.in_channels = in_channels
        self.num_ins = len(in_channels)
        self.out_channels = out_channels
        self.share_conv = share_conv
        self.pooling = F.max_pool2d if pooling == "MAX" else F.avg_pool2d

        def out_conv() -> nn.Conv2d:
            return nn.Conv2d(out_channels, out_channels, 3, padding=1)

        self.fpn_conv: Any = (
            out_conv() if share_conv else nn.ModuleList(out_conv() for _ in range(n_out_features))
        )
        self.interp_conv = nn.ModuleList(
            _with_norm(nn.ConvTranspose2d(dim, dim, 4, stride=2**branch, bias=False), dim)
            for branch, dim in enumerate(in_channels)
        )
        self.reduction_pooling_conv = nn.ModuleList(
            _with_norm(
                nn.Conv2d(sum(in_channels), out_channels, 2**level, stride=2**level), out_channels
            )
            for level in range(n_out_features)
        )
        names = [f"p{level + 1}" for level in range(n_out_features)]
        self._out_features = names
        self._out_feature_channels = dict.fromkeys(names, out_channels)
        self._out_feature_strides = {name: 4 * 2**level for level, name in enumerate(names)}

    def init_weights(self) -> None:
        """Fill convolutions with He's initialisation, and their biases with 0."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, a=1)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        """Map images ``(N, 3, H, W)`` to ``p1`` ``(N, D, H / 4, W / 4)``, ``p2``, ..."""
        branches = self.bottom_up(inputs)
        enlarged = [
            conv(branches[name])
            for conv, name in zip(self.interp_conv, self.in_features, strict=True)
        ]
        height, width = (min(x.shape[d] for x in enlarged) for d in (2, 3))
        together = torch.cat([x[:, :, :height, :width] for x in enlarged], dim=1)

        levels = [shrink(together) for shrink in self.reduction_pooling_conv]
        height, width = levels[-1].shape[2:]
        convs = [self.fpn_conv] * len(levels) if self.share_conv else self.fpn_conv
        outputs = {}
        for level, (name, x, conv) in enumerate(
            zip(self._out_features, levels, convs, strict=True), start=1
        ):
            factor = 2 ** (len(levels) - level)  # each level has twice the size of the next
            outputs[name] = conv(x[:, :, : height * factor, : width * factor])
        return outputs


def _with_norm(conv: nn.Module, channels: int) -> nn.Sequential:
    return nn.Sequential(conv, nn.BatchNorm2d(channels, momentum=0.1), nn.ReLU(inplace=True))


def build_hrfpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> HRFPN:
    """Build HRNet with its pyramid, of as many levels as ``MODEL.ROI_HEADS.IN_FEATURES`` names."""
    last = cfg.MODEL.HRNET.STAGE4
    return HRFPN(
        build_pose_hrnet_backbone(cfg, input_shape),
        in_features=[f"p{branch + 1}" for branch in range(last.NUM_BRANCHES)],
        n_out_features=len(cfg.MODEL.ROI_HEADS.IN_FEATURES),
        in_channels=list(last.NUM_CHANNELS),
        out_channels=cfg.MODEL.HRNET.HRFPN.OUT_CHANNELS,
    )
