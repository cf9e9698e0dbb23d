"""Feature pyramid: the same channels at every stride.

Shapes
    N images; D channels of the pyramid; level k, called p<k>, has stride 2**k pixels.

Reading order: FPN.forward goes from the coarsest feature map to the finest; top blocks add
coarser levels; the builders make the pyramids that configs name.

Source: Lin et al., "Feature Pyramid Networks" (2017), https://arxiv.org/abs/1612.03144; levels 6
and 7: Lin et al., "Focal Loss" (2017), https://arxiv.org/abs/1708.02002.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import nn

from retinue.layers import Conv2d, ShapeSpec, get_norm, weight_init
from retinue.modeling.backbone.backbone import Backbone
from retinue.modeling.backbone.resnet import build_resnet_backbone
from retinue.modeling.catalog import BACKBONE_REGISTRY
from retinue.utils.errors import InputError, unknown_name

if TYPE_CHECKING:
    from retinue.config import CfgNode

__all__ = [
    "BACKBONE_REGISTRY",
    "FPN",
    "LastLevelMaxPool",
    "LastLevelP6P7",
    "build_resnet_fpn_backbone",
    "build_retinanet_resnet_fpn_backbone",
]


class FPN(Backbone):
    """A pyramid on top of a backbone: p2, p3, ... by the stride of their inputs.

    Args:
        bottom_up: the backbone that the feature maps come from.
        in_features: its outputs to use, finest first, each of twice the stride of the one before.
        out_channels: channels of every level.
        norm: a name that ``get_norm`` knows, or a callable from channels to a module; without
            one, the convolutions have biases.
        top_block: makes levels above the last one; has ``in_feature``, an output of ``bottom_up``
            or a level, and ``num_levels``.
        fuse_type: ``"sum"`` or ``"avg"`` of a level and the one above.
        square_pad: if above 0, batches are padded to squares of that many pixels.

    Raises:
        InputError: If an argument is none of these.
        UnknownNameError: If ``bottom_up`` has no such output.
    """

    def __init__(
        self,
        bottom_up: Backbone,
        in_features: Sequence[str],
        out_channels: int,
        norm: str | Callable[[int], nn.Module] = "",
        top_block: Any = None,
        fuse_type: str = "sum",
        square_pad: int = 0,
    ) -> None:
        super().__init__()
        shapes = _shapes_of(bottom_up, in_features)
        if fuse_type not in ("sum", "avg"):
            raise InputError(f"FPN: fuse_type must be 'sum' or 'avg'; got {fuse_type!r}")
        strides: list[int] = [shape.stride for shape in shapes]
        _assert_strides_are_log2_contiguous(strides)
        self._levels = [stride.bit_length() - 1 for stride in strides]
        for level, shape in zip(self._levels, shapes, strict=True):
            lateral = Conv2d(
                shape.channels,
                out_channels,
                kernel_size=1,
                bias=norm == "",
                norm=get_norm(norm, out_channels),
            )
            output = Conv2d(
                out_channels,
                out_channels,
                kernel_size=3,
                padding=1,
                bias=norm == "",
                norm=get_norm(norm, out_channels),
            )
            for name, conv in (("lateral", lateral), ("output", output)):
                weight_init.c2_xavier_fill(conv)
                self.add_module(f"fpn_{name}{level}", conv)
        self.top_block = top_block
        self.in_features = tuple(in_features)
        self.bottom_up = bottom_up

        last = self._levels[-1]
        if top_block is not None:
            sources = [*bottom_up.output_shape(), *(f"p{k}" for k in self._levels)]
            if top_block.in_feature not in sources:
                raise unknown_name("input of the FPN's top block", top_block.in_feature, sources)
            last += top_block.num_levels
        self._out_feature_strides = {f"p{k}": 2**k for k in range(self._levels[0], last + 1)}
        self._out_features = list(self._out_feature_strides)
        self._out_feature_channels = dict.fromkeys(self._out_features, out_channels)
        self._size_divisibility = strides[-1]
        self._square_pad = square_pad
        self._fuse_type = fuse_type

    @property
    def lateral_convs(self) -> list[nn.Module]:
        """The 1x1 convolutions on the outputs of ``bottom_up``, coarsest level first."""
        return [getattr(self, f"fpn_lateral{k}") for k in reversed(self._levels)]

    @property
    def output_convs(self) -> list[nn.Module]:
        """The 3x3 convolutions behind the fusion, coarsest level first."""
        return [getattr(self, f"fpn_output{k}") for k in reversed(self._levels)]

    @property
    def size_divisibility(self) -> int:
        """The stride of the coarsest input, in pixels."""
        return self._size_divisibility

    @property
    def padding_constraints(self) -> dict[str, int]:
        """The size of square batches, in pixels; 0 for none."""
        return {"square_size": self._square_pad}

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Map images ``(N, C, H, W)`` to ``{"p2": (N, D, H/4, W/4), "p3": ...}``, finest first."""
        features = self.bottom_up(x)
        outputs: list[torch.Tensor] = []
        merged = None
        for name, level in zip(reversed(self.in_features), reversed(self._levels), strict=True):
            lateral = getattr(self, f"fpn_lateral{level}")(features[name])  # (N, D, h, w)
            if merged is None:
                merged = lateral
            else:
                merged = lateral + F.interpolate(merged, scale_factor=2.0, mode="nearest")
                merged = merged / 2 if self._fuse_type == "avg" else merged
            outputs.insert(0, getattr(self, f"fpn_output{level}")(merged))

        if self.top_block is not None:
            source = self.top_block.in_feature
            top = features.get(source)
            if top is None:
                top = outputs[self._out_features.index(source)]
            outputs += self.top_block(top)
        return dict(zip(self._out_features, outputs, strict=True))

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Return channels and stride of each level, finest first."""
        return {
            name: ShapeSpec(
                channels=self._out_feature_channels[name], stride=self._out_feature_strides[name]
            )
            for name in self._out_features
        }


def _shapes_of(bottom_up: Backbone, in_features: Sequence[str]) -> list[Any]:
    if not isinstance(bottom_up, Backbone):
        raise InputError(f"FPN: bottom_up must be a Backbone; got {type(bottom_up).__name__}")
    if not in_features:
        raise InputError("FPN: in_features must name at least one feature map; got none")
    shapes = bottom_up.output_shape()
    for name in in_features:
        if name not in shapes:
            hint = "those are what FPN's bottom_up gives, its out_features"
            raise unknown_name("feature in FPN's in_features", name, shapes, hint)
    return [shapes[name] for name in in_features]


def _assert_strides_are_log2_contiguous(strides: Sequence[int]) -> None:
    """Refuse strides that don't double from one level to the next."""
    if any(b != 2 * a for a, b in pairwise(strides)):
        raise InputError(
            f"pyramid: each stride must be twice the one before; got {list(strides)};"
            " name the feature maps from fine to coarse, without gaps"
        )


class LastLevelMaxPool(nn.Module):
    """Adds p6 to a pyramid: every second row and column of p5."""

    def __init__(self) -> None:
        super().__init__()
        self.num_levels = 1
        self.in_feature = "p5"

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Map p5 ``(N, D, H, W)`` to ``[p6]``."""
        return [F.max_pool2d(x, kernel_size=1, stride=2)]


class LastLevelP6P7(nn.Module):
    """Adds p6 and p7 to a pyramid by convolutions of stride 2, as in RetinaNet.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the levels.
        in_feature: the input: a feature map of the backbone, or a level.
    """

    def __init__(self, in_channels: int, out_channels: int, in_feature: str = "res5") -> None:
        super().__init__()
        self.num_levels = 2
        self.in_feature = in_feature
        self.p6 = nn.Conv2d(in_channels, out_channels, kernel_size=3, stride=2, padding=1)
        self.p7 = nn.Conv2d(out_channels, out_channels, kernel_size=3, stride=2, padding=1)
        for conv in (self.p6, self.p7):
            weight_init.c2_xavier_fill(conv)

    def forward(self, c5: torch.Tensor) -> list[torch.Tensor]:
        """Map ``in_feature`` ``(N, C, H, W)`` to ``[p6, p7]``."""
        p6 = self.p6(c5)
        return [p6, self.p7(F.relu(p6))]


def build_resnet_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """Build the ResNet of ``cfg.MODEL.RESNETS`` with a pyramid up to p6 (``cfg.MODEL.FPN``)."""
    return _build_fpn(cfg, build_resnet_backbone(cfg, input_shape), LastLevelMaxPool())


def build_retinanet_resnet_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """Build the ResNet of ``cfg.MODEL.RESNETS`` with a pyramid up to p7 (``cfg.MODEL.FPN``)."""
    bottom_up = build_resnet_backbone(cfg, input_shape)
    shapes: dict[str, Any] = bottom_up.output_shape()
    if "res5" not in shapes:
        raise unknown_name("feature map for p6", "res5", shapes, "set MODEL.RESNETS.OUT_FEATURES")
    top_block = LastLevelP6P7(shapes["res5"].channels, cfg.MODEL.FPN.OUT_CHANNELS)
    return _build_fpn(cfg, bottom_up, top_block)


def _build_fpn(cfg: CfgNode, bottom_up: Backbone, top_block: nn.Module) -> FPN:
    return FPN(
        bottom_up=bottom_up,
        in_features=cfg.MODEL.FPN.IN_FEATURES,
        out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
        norm=cfg.MODEL.FPN.NORM,
        top_block=top_block,
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
    )
