"""Backbones from outside: any classification model of timm or torchvision, by name.

    backbone = OutsideBackbone("timm:convnext_tiny", out_features=[8, 16, 32], pretrained=True)

In a config, where pretrained weights and other options follow a question mark:

    MODEL.BACKBONE.NAME: "timm:convnext_tiny?pretrained=True"
    MODEL.FPN.IN_FEATURES: ["stride4", "stride8", "stride16", "stride32"]

Shapes
    N images; C channels; T frames of a clip; H, W rows and columns.

Feature maps are named by their stride in pixels: ``stride8`` is the last map of stride 8 that the
network computes. ``res3`` means the same, as strides double from ``res2``, stride 4, on; so configs
made for a ResNet need another ``MODEL.BACKBONE.NAME`` and nothing else.

Reading order: OutsideBackbone; outside_timm and outside_torchvision find a network's feature maps;
build_outside_backbone reads a config.
"""

from __future__ import annotations

import logging
import math
import re
from ast import literal_eval
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import nn

from retinue.layers import ShapeSpec
from retinue.modeling.backbone.backbone import Backbone
from retinue.modeling.backbone.fpn import FPN, LastLevelMaxPool, LastLevelP6P7
from retinue.modeling.backbone.outside_network import NUM_FRAMES, Network, names_behind
from retinue.modeling.backbone.vit import SimpleFeaturePyramid
from retinue.utils.errors import InputError, unknown_name

if TYPE_CHECKING:
    from retinue.config import CfgNode

__all__ = ["OutsideBackbone", "build_outside_backbone"]

logger = logging.getLogger(__name__)


class OutsideBackbone(Backbone):
    """A classification model of another library, without its classifier.

    The network keeps its own names of weights, under ``net.``; what comes after the last feature
    map asked for is dropped.

    Pretrained weights expect images normalised as in their training, RGB. Either let the detector
    do so, by ``pixel_mean=backbone.pixel_mean, pixel_std=backbone.pixel_std`` and RGB images; or
    tell this class by the same names what the detector does, and the input is converted.

    Args:
        name: ``"timm:NAME"`` or ``"torchvision:NAME"``; a model for video takes clips.
        out_features: feature maps, finest first: strides (``8``) or names (``"stride8"``,
            ``"res3"``), which then are those of the output. By default one for each stride.
        pretrained: whether to download the weights that the library offers for the name.
        freeze_at: k > 0 freezes all parameters that the maps of stride 2**k and finer depend on.
        freeze_norm: whether batch norms keep their statistics, scale and shift; by default if
            ``pretrained``, since batches of detectors are small.
        in_channels: channels of the images.
        pixel_mean: what the detector subtracts from each channel, in [0, 255]; None: it normalises
            as the weights expect.
        pixel_std: what it then divides by.
        input_format: order of its channels, ``"RGB"`` or ``"BGR"``.
        **options: arguments of the library's own function that makes the model.

    Raises:
        ImportError: If the library is missing; the message names the extra.
        UnknownNameError: If it has no such model.
        InputError: If the model has no such feature map, or none at all.

    Attributes:
        is_clip: whether it maps clips ``(N, C, T, H, W)`` to ``(N, D, t, h, w)``.
        temporal_strides: frames of the input per frame of each feature map, for clips.
        image_mean: of each channel, RGB in [0, 1], that the weights expect.
        image_std: likewise.
    """

    input_scale: torch.Tensor | None
    input_shift: Any

    def __init__(
        self,
        name: str,
        *,
        out_features: Sequence[str | int] | None = None,
        pretrained: bool = False,
        freeze_at: int = 0,
        freeze_norm: bool | None = None,
        in_channels: int = 3,
        pixel_mean: Sequence[float] | None = None,
        pixel_std: Sequence[float] | None = None,
        input_format: str = "RGB",
        **options: Any,
    ) -> None:
        super().__init__()
        wanted = None if out_features is None else _names_and_strides(out_features)

        def choose(strides: Sequence[int]) -> list[int]:
            self._is_flat = len(strides) == 1
            if wanted is None:
                return list(strides)
            missing = [n for n, stride in wanted.items() if stride not in strides]
            if missing:
                raise InputError(
                    f"{name}: has no feature map {', '.join(map(repr, missing))}; it has"
                    f" {', '.join(f'stride{s}' for s in strides)}; choose out_features among them"
                    " (in a config, MODEL.FPN.IN_FEATURES or IN_FEATURES of what comes next)"
                )
            return sorted(set(wanted.values()))

        make = _source(name)
        network: Network = make(
            name.partition(":")[2],
            choose,
            pretrained=pretrained,
            in_channels=in_channels,
            options=options,
        )
        self.name = name
        self.net = network.net
        self._maps = network.maps
        self._strides = network.strides
        self._names = wanted or {f"stride{s}": s for s in network.strides}
        self._channels = dict(zip(network.strides, network.channels, strict=True))
        self._fixed_side = network.fixed_side
        self.in_channels = in_channels
        self.is_clip = network.is_clip
        times = dict(zip(network.strides, network.temporal_strides, strict=False))
        self.temporal_strides = {n: times[s] for n, s in self._names.items() if s in times}
        self.image_mean, self.image_std = network.mean, network.std
        self._convert_input(pixel_mean, pixel_std, input_format)
        if pretrained and pixel_mean is None:
            logger.warning(
                "%s: its weights expect RGB images less pixel_mean=%s, over pixel_std=%s; let the"
                " detector normalise so, or say here by pixel_mean, pixel_std and input_format how"
                " it does",
                name,
                [round(x, 3) for x in self.pixel_mean],
                [round(x, 3) for x in self.pixel_std],
            )
        self._freeze(network, freeze_at, pretrained if freeze_norm is None else freeze_norm)

    @property
    def pixel_mean(self) -> list[float]:
        """What a detector subtracts from RGB pixels in [0, 255] to suit the weights."""
        return [255 * x for x in self.image_mean]

    @property
    def pixel_std(self) -> list[float]:
        """What it then divides by."""
        return [255 * x for x in self.image_std]

    @property
    def size_divisibility(self) -> int:
        """The coarsest stride, in pixels."""
        return max(self._strides)

    @property
    def padding_constraints(self) -> dict[str, int]:
        """The side of square batches, in pixels, for a network that takes no other size."""
        return {"square_size": self._fixed_side} if self._fixed_side else {}

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Return channels and stride of each feature map, by name."""
        return {n: ShapeSpec(channels=self._channels[s], stride=s) for n, s in self._names.items()}

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Map images ``(N, C, H, W)``, or clips ``(N, C, T, H, W)``, to feature maps by name.

        Raises:
            InputError: If the input is of the other kind, or the network takes no such size.
        """
        self._check_input(x)
        size_hw = x.shape[-2:]
        if self.input_scale is not None:
            x = x * self.input_scale.to(x.dtype) + self.input_shift.to(x.dtype)
            x = x.flip(1) if self._flip else x
        if self._is_flat:  # a transformer's patches must fill the image
            rows, columns = (-side % self._strides[0] for side in size_hw)
            x = F.pad(x, (0, columns, 0, rows))
        maps = dict(zip(self._strides, self._maps(self.net, x), strict=True))
        if not self.is_clip:
            maps = {s: _fit_grid(m, s, size_hw) for s, m in maps.items()}
        return {name: maps[stride] for name, stride in self._names.items()}

    def _freeze(self, network: Network, freeze_at: int, freeze_norm: bool) -> None:
        """Freeze what finer maps depend on, what no map depends on, and batch norms."""
        side = self._fixed_side or 8 * self.size_divisibility
        size = (self.in_channels, *((NUM_FRAMES,) if self.is_clip else ()), side, side)
        frozen = names_behind(
            network, size, lambda stride: freeze_at > 0 and stride <= 2**freeze_at
        )
        used = names_behind(network, size, lambda stride: stride in self._strides)
        for name, parameter in self.net.named_parameters():
            if name in frozen or name not in used:
                parameter.requires_grad = False
        for norm in self._batch_norms() if freeze_norm else ():
            norm.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> OutsideBackbone:
        """Switch the mode; batch norms whose parameters are frozen keep their statistics."""
        super().train(mode)
        for norm in self._batch_norms():
            if not any(p.requires_grad for p in norm.parameters()):
                norm.eval()
        return self

    def _batch_norms(self) -> list[nn.Module]:
        return [m for m in self.net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]

    def _convert_input(
        self, mean: Sequence[float] | None, std: Sequence[float] | None, input_format: str
    ) -> None:
        """Prepare the map from what the detector hands over to what the weights expect."""
        self._flip = False
        scale = shift = None
        if mean is not None and self.in_channels == 3:
            if input_format not in ("RGB", "BGR"):
                raise InputError(
                    f"{self.name}: input_format (INPUT.FORMAT) must be 'RGB' or 'BGR'; got"
                    f" {input_format!r}"
                )
            self._flip = input_format == "BGR"
            order = -1 if self._flip else 1
            given_mean = torch.tensor(list(mean)) / 255
            given_std = torch.tensor(list(std or (1.0,) * 3)) / 255
            wanted_mean = torch.tensor(self.image_mean[::order])
            wanted_std = torch.tensor(self.image_std[::order])
            scale = (given_std / wanted_std)[:, None, None]
            shift = ((given_mean - wanted_mean) / wanted_std)[:, None, None]
            if self.is_clip:
                scale, shift = scale[..., None], shift[..., None]
        self.register_buffer("input_scale", scale, persistent=False)
        self.register_buffer("input_shift", shift, persistent=False)

    def _check_input(self, x: torch.Tensor) -> None:
        if x.dim() != (5 if self.is_clip else 4):
            expected = "clips (N, C, T, H, W)" if self.is_clip else "images (N, C, H, W)"
            raise InputError(f"{self.name}: expects {expected}; got {tuple(x.shape)}")
        side = self._fixed_side
        if side and tuple(x.shape[-2:]) != (side, side):
            raise InputError(
                f"{self.name}: takes images of {side} x {side} pixels only; got"
                f" {tuple(x.shape[-2:])}; scale images to fit in (INPUT.MIN_SIZE_TEST,"
                " INPUT.MAX_SIZE_TEST), or give the network's own option for another size"
            )


def _source(name: str) -> Any:
    """Return the function that makes the networks of a library."""
    library, colon, model = name.partition(":")
    if library == "timm" and model:
        from retinue.modeling.backbone.outside_timm import make_network
    elif library == "torchvision" and model:
        from retinue.modeling.backbone.outside_torchvision import make_network
    elif colon and model:
        raise unknown_name("library of backbones", library, ["timm", "torchvision"])
    else:
        raise InputError(f"backbone name: expected 'timm:NAME' or 'torchvision:NAME'; got {name!r}")
    return make_network


def _names_and_strides(out_features: Sequence[str | int]) -> dict[str, int]:
    """Read ``8``, ``"stride8"`` and ``"res3"``; return strides by name, in the order given."""
    if isinstance(out_features, str) or not out_features:
        raise InputError(f"out_features: expected a list such as [8, 16, 32]; got {out_features!r}")
    found = {}
    for name in out_features:
        stride = name if isinstance(name, int) else _stride_of(name)
        if stride is None:
            raise InputError(
                "out_features: expected strides such as 8, 'stride8', or 'res3' for the same; got"
                f" {name!r}"
            )
        found[f"stride{name}" if isinstance(name, int) else name] = stride
    return found


def _stride_of(name: str) -> int | None:
    """Return the stride that a name stands for; None if it is another name."""
    match = re.fullmatch(r"(stride|res)(\d+)", name)
    if match is None:
        return None
    number = int(match[2])
    return number if match[1] == "stride" else 2**number


def _fit_grid(feature: torch.Tensor, stride: int, size_hw: Sequence[int]) -> torch.Tensor:
    """Stretch the map of a network without padding, which lacks cells at the borders."""
    exact = [x / stride for x in size_hw]
    if all(
        math.floor(e) <= x <= math.ceil(e) for e, x in zip(exact, feature.shape[-2:], strict=True)
    ):
        return feature
    return F.interpolate(feature, [math.ceil(e) for e in exact], mode="bilinear")


# ------------------------------------------------------------------------------ from a config


def build_outside_backbone(name: str, cfg: CfgNode, input_shape: ShapeSpec) -> Backbone:
    """Build the network that ``MODEL.BACKBONE.NAME`` names, with a pyramid if one is asked for.

    Options follow a question mark, ``"timm:convnext_tiny?pretrained=True&drop_path_rate=0.2"``:
    arguments of :class:`OutsideBackbone`. The input is converted to what the network's weights
    expect, whatever ``MODEL.PIXEL_MEAN``, ``MODEL.PIXEL_STD`` and ``INPUT.FORMAT`` are, pretrained
    or not: a model trained from such weights is used without them later.
    ``MODEL.BACKBONE.FREEZE_AT`` counts with pretrained weights alone.

    ``MODEL.FPN.IN_FEATURES`` names the inputs of a pyramid. Levels above the last are added as what
    comes next asks for them: one by pooling, two by convolutions. A network with one stride, such
    as a vision transformer, gets the pyramid of ViTDet instead. Without it, the feature maps are
    those that ``IN_FEATURES`` of what comes next name.

    Args:
        name: of the network, with options.
        cfg: the whole config.
        input_shape: channels of the images.

    Raises:
        InputError: If the network takes clips, lacks a feature map, or an option is malformed.
    """
    network, _, query = name.partition("?")
    options = _options(name, query)
    asked = _asked_features(cfg)
    inputs = list(cfg.MODEL.FPN.IN_FEATURES)
    freeze_at = cfg.MODEL.BACKBONE.FREEZE_AT if options.get("pretrained") else 0
    arguments = {
        "out_features": inputs or [n for n in asked if _stride_of(n)] or None,
        "freeze_at": freeze_at,
        "in_channels": input_shape.channels,
        "pixel_mean": cfg.MODEL.PIXEL_MEAN,
        "pixel_std": cfg.MODEL.PIXEL_STD,
        "input_format": cfg.INPUT.FORMAT,
    }
    backbone = OutsideBackbone(network, **(arguments | options))
    if backbone.is_clip:
        raise InputError(
            f"MODEL.BACKBONE.NAME: {network} takes clips (N, C, T, H, W), the models of a config"
            " take images; use OutsideBackbone in a model of your own"
        )
    return _add_pyramid(cfg, backbone, inputs, asked) if inputs else backbone


def _options(name: str, query: str) -> dict[str, Any]:
    """Read ``"a=True&b=0.2&out_features=stride8,stride16"``; what is no literal is a string."""
    options: dict[str, Any] = {}
    for part in filter(None, query.split("&")):
        key, equals, text = part.partition("=")
        if not (key and equals):
            raise InputError(f"MODEL.BACKBONE.NAME: {name}: expected KEY=VALUE; got {part!r}")
        try:
            options[key] = literal_eval(text)
        except (ValueError, SyntaxError):
            options[key] = text.split(",") if key == "out_features" else text
    return options


def _asked_features(cfg: CfgNode) -> list[str]:
    """Return the feature maps that the parts behind the backbone take."""
    model = cfg.MODEL
    parts = {
        "RetinaNet": [model.RETINANET],
        "SemanticSegmentor": [model.SEM_SEG_HEAD],
        "PanopticFPN": [model.RPN, model.ROI_HEADS, model.SEM_SEG_HEAD],
        "ProposalNetwork": [model.RPN],
    }.get(model.META_ARCHITECTURE, [model.RPN, model.ROI_HEADS])
    return list(dict.fromkeys(name for part in parts for name in part.IN_FEATURES))


def _add_pyramid(
    cfg: CfgNode, backbone: OutsideBackbone, inputs: list[str], asked: list[str]
) -> Backbone:
    fpn = cfg.MODEL.FPN
    levels = [int(name[1:]) for name in asked if re.fullmatch(r"p\d+", name)]
    shapes: dict[str, Any] = backbone.output_shape()
    last = shapes[inputs[-1]].stride.bit_length() - 1
    if len(inputs) == 1 and levels and min(levels) < last:  # from one map to finer ones
        last = min(max(levels), last + 1)
        scales = [
            2.0 ** (shapes[inputs[0]].stride.bit_length() - 1 - level)
            for level in range(min(levels), last + 1)
        ]
        return SimpleFeaturePyramid(
            backbone,
            inputs[0],
            fpn.OUT_CHANNELS,
            scales,
            top_block=_top_block(max(levels) - last, last, fpn.OUT_CHANNELS, f"p{last}"),
            norm=fpn.NORM or "LN",
            square_pad=backbone.padding_constraints.get("square_size", 0),
        )
    extra = max(levels, default=last) - last
    top_block = _top_block(extra, last, fpn.OUT_CHANNELS, inputs[-1], shapes[inputs[-1]].channels)
    return FPN(
        bottom_up=backbone,
        in_features=inputs,
        out_channels=fpn.OUT_CHANNELS,
        norm=fpn.NORM,
        top_block=top_block,
        fuse_type=fpn.FUSE_TYPE,
        square_pad=backbone.padding_constraints.get("square_size", 0),
    )


def _top_block(
    num_extra: int, last: int, out_channels: int, source: str, channels: int | None = None
) -> nn.Module | None:
    """Make levels above ``p<last>``: none, one by pooling, or two by convolutions."""
    if num_extra <= 0:
        return None
    if num_extra == 1:
        pool = LastLevelMaxPool()
        pool.in_feature = f"p{last}"
        return pool
    return LastLevelP6P7(channels or out_channels, out_channels, in_feature=source)
