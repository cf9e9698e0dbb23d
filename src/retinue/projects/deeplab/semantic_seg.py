"""The heads of DeepLabV3 and DeepLabV3+.

Shapes
    N images; C channels; K classes; H, W rows and columns of the padded batch; s stride, in pixels,
    that a head predicts at.

Reading order: DeepLabV3Head is ASPP and a classifier; DeepLabV3PlusHead adds a decoder that brings
finer feature maps in, and is what Panoptic-DeepLab builds on.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from retinue.config import CfgNode, configurable
from retinue.layers import ASPP, Conv2d, DepthwiseSeparableConv2d, ShapeSpec, get_norm
from retinue.layers.weight_init import c2_xavier_fill
from retinue.modeling.config_fit import pick_features
from retinue.projects.deeplab.loss import make_pixel_loss
from retinue.utils.errors import InputError

__all__ = ["DeepLabV3Head", "DeepLabV3PlusHead", "make_fusion", "make_predictor", "training_size"]

Norm = str | Callable[[int], nn.Module]
Features = Mapping[str, torch.Tensor]


def training_size(cfg: CfgNode) -> tuple[int, int] | None:
    """Return the (height, width) that all training images have, or None if they differ.

    Raises:
        InputError: If crops have no fixed size in pixels.
    """
    if not cfg.INPUT.CROP.ENABLED:
        return None
    if cfg.INPUT.CROP.TYPE != "absolute":
        raise InputError(
            "DeepLab averages over a whole training crop: INPUT.CROP.TYPE must be 'absolute'; got"
            f" {cfg.INPUT.CROP.TYPE!r}"
        )
    height, width = cfg.INPUT.CROP.SIZE
    return height, width


def _pooling_window(train_size: Sequence[int] | None, stride: int) -> tuple[int, int] | None:
    """Return the (height, width) of a training crop in cells of a feature map."""
    if train_size is None:
        return None
    height, width = train_size
    if height % stride or width % stride:
        raise InputError(
            f"INPUT.CROP.SIZE must be divisible by the encoder's stride {stride}; got"
            f" {tuple(train_size)}"
        )
    return height // stride, width // stride


def make_fusion(
    in_channels: int, hidden: int, out_channels: int, norm: Norm, separable: bool
) -> nn.Module:
    """Make two 3x3 convolutions, or one separable 5x5 convolution, which sees as far."""
    if separable:
        return DepthwiseSeparableConv2d(
            in_channels,
            out_channels,
            kernel_size=5,
            padding=2,
            norm1=norm,
            activation1=F.relu,
            norm2=norm,
            activation2=F.relu,
        )
    return nn.Sequential(
        _conv(in_channels, hidden, 3, norm),
        _conv(hidden, out_channels, 3, norm),
    )


def _conv(in_channels: int, out_channels: int, kernel_size: int, norm: Norm) -> Conv2d:
    layer = Conv2d(
        in_channels,
        out_channels,
        kernel_size,
        padding=kernel_size // 2,
        bias=norm == "",
        norm=get_norm(norm, out_channels),
        activation=F.relu,
    )
    c2_xavier_fill(layer)
    return layer


def make_predictor(in_channels: int, out_channels: int) -> Conv2d:
    """Make a 1x1 convolution that starts near 0."""
    layer = Conv2d(in_channels, out_channels, kernel_size=1)
    nn.init.normal_(layer.weight, std=0.001)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def enlarge(x: torch.Tensor, factor: int) -> torch.Tensor:
    """Interpolate ``(N, C, H / s, W / s)`` to ``(N, C, H, W)``, s being ``factor``."""
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


class DeepLabV3PlusHead(nn.Module):
    """ASPP on the coarsest feature map, and a decoder that joins the finer ones.

    Args:
        input_shape: channels and stride of each feature map, by name.
        project_channels: channels that each map but the coarsest is reduced to, finest first.
        aspp_dilations: of the three dilated convolutions.
        aspp_dropout: probability of dropping an element of ASPP's output in training.
        decoder_channels: output channels at each map, finest first; the last are ASPP's.
        common_stride: s, that of the finest map.
        norm: after every convolution; without one (``""``), convolutions have biases.
        train_size: (height, width) of all training images; ASPP averages over windows of that size
            then, over the whole image otherwise.
        loss_weight: what the loss is multiplied by.
        loss_type: see :func:`~.loss.make_pixel_loss`.
        ignore_value: label of pixels that are not trained on.
        num_classes: K; None for the decoder alone, whose output is features.
        use_depthwise_separable_conv: make ASPP and decoder of such convolutions.

    Raises:
        InputError: If there are not as many channels as feature maps.
    """

    @configurable
    def __init__(
        self,
        input_shape: Mapping[str, ShapeSpec],
        *,
        project_channels: Sequence[int],
        aspp_dilations: Sequence[int],
        aspp_dropout: float,
        decoder_channels: Sequence[int],
        common_stride: int,
        norm: Norm,
        train_size: Sequence[int] | None,
        loss_weight: float = 1.0,
        loss_type: str = "cross_entropy",
        ignore_value: int = -1,
        num_classes: int | None = None,
        use_depthwise_separable_conv: bool = False,
    ) -> None:
        super().__init__()
        names = sorted(input_shape, key=lambda name: input_shape[name].stride or 0)
        if (len(project_channels), len(decoder_channels)) != (len(names) - 1, len(names)):
            raise InputError(
                f"DeepLabV3PlusHead: the feature maps {names} need {len(names) - 1} project"
                f" channels and {len(names)} decoder channels; got {list(project_channels)} and"
                f" {list(decoder_channels)}; see MODEL.SEM_SEG_HEAD.PROJECT_CHANNELS"
            )
        self.in_features = names
        self.ignore_value = ignore_value
        self.common_stride = common_stride
        self.loss_weight = loss_weight
        self.loss_type = loss_type
        self.decoder_only = num_classes is None
        self.use_depthwise_separable_conv = use_depthwise_separable_conv

        self.decoder = nn.ModuleDict()
        for i, name in enumerate(names[:-1]):
            channels = project_channels[i] + decoder_channels[i + 1]
            dim = decoder_channels[i]
            self.decoder[name] = nn.ModuleDict(
                {
                    "project_conv": _conv(
                        input_shape[name].channels or 1, project_channels[i], 1, norm
                    ),
                    "fuse_conv": make_fusion(
                        channels, dim, dim, norm, use_depthwise_separable_conv
                    ),
                }
            )
        coarsest = input_shape[names[-1]]
        aspp = ASPP(
            coarsest.channels or 1,
            decoder_channels[-1],
            aspp_dilations,
            norm=norm,
            activation=F.relu,
            pool_kernel_size=_pooling_window(train_size, coarsest.stride or 1),
            dropout=aspp_dropout,
            use_depthwise_separable_conv=use_depthwise_separable_conv,
        )
        self.decoder[names[-1]] = nn.ModuleDict({"project_conv": aspp})
        if num_classes is not None:
            self.predictor = make_predictor(decoder_channels[0], num_classes)
            self.loss = make_pixel_loss(loss_type, ignore_value)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> dict[str, Any]:
        head = cfg.MODEL.SEM_SEG_HEAD
        finer = len(head.IN_FEATURES) - 1
        return {
            "input_shape": pick_features(
                "MODEL.SEM_SEG_HEAD.IN_FEATURES", head.IN_FEATURES, input_shape
            ),
            "project_channels": head.PROJECT_CHANNELS,
            "aspp_dilations": head.ASPP_DILATIONS,
            "aspp_dropout": head.ASPP_DROPOUT,
            "decoder_channels": [head.CONVS_DIM] * finer + [head.ASPP_CHANNELS],
            "common_stride": head.COMMON_STRIDE,
            "norm": head.NORM,
            "train_size": training_size(cfg),
            "loss_weight": head.LOSS_WEIGHT,
            "loss_type": head.LOSS_TYPE,
            "ignore_value": head.IGNORE_VALUE,
            "num_classes": head.NUM_CLASSES,
            "use_depthwise_separable_conv": head.USE_DEPTHWISE_SEPARABLE_CONV,
        }

    def forward(self, features: Features, targets: torch.Tensor | None = None) -> Any:
        """Classify every pixel.

        Args:
            features: feature maps by name.
            targets: ``(N, H, W)`` int64 labels, needed in training.

        Returns:
            None and the losses in training; else logits ``(N, K, H, W)`` and nothing. Of a decoder
            alone, its features ``(N, C, H / s, W / s)``.
        """
        x = self.layers(features)
        if self.decoder_only:
            return x
        if self.training:
            return None, self.losses(x, targets)
        return enlarge(x, self.common_stride), {}

    def layers(self, features: Features) -> Any:
        """Map feature maps to logits ``(N, K, H / s, W / s)``, coarsest map first."""
        coarsest = self.in_features[-1]
        x = self._stage(coarsest)["project_conv"](features[coarsest])
        for name in reversed(self.in_features[:-1]):
            stage = self._stage(name)
            fine = stage["project_conv"](features[name])
            x = F.interpolate(x, size=fine.shape[2:], mode="bilinear", align_corners=False)
            x = stage["fuse_conv"](torch.cat((fine, x), dim=1))
        return x if self.decoder_only else self.predictor(x)

    def _stage(self, name: str) -> Any:
        return self.decoder[name]

    def losses(self, predictions: torch.Tensor, targets: Any) -> dict[str, torch.Tensor]:
        """Compare logits ``(N, K, H / s, W / s)`` with labels ``(N, H, W)``, at full size."""
        loss = self.loss(enlarge(predictions, self.common_stride), targets)
        return {"loss_sem_seg": loss * self.loss_weight}


class DeepLabV3Head(nn.Module):
    """ASPP on one feature map, and a classifier.

    Args:
        input_shape: channels and stride of the feature map, by its name.
        aspp_channels: channels of ASPP's output.
        aspp_dilations: of the three dilated convolutions.
        aspp_dropout: probability of dropping an element of ASPP's output in training.
        num_classes: K.
        common_stride: s, that of the feature map.
        norm: after every convolution; without one (``""``), convolutions have biases.
        train_size: (height, width) of all training images; see :class:`DeepLabV3PlusHead`.
        loss_weight: what the loss is multiplied by.
        loss_type: see :func:`~.loss.make_pixel_loss`.
        ignore_value: label of pixels that are not trained on.
        use_depthwise_separable_conv: make ASPP of such convolutions.

    Raises:
        InputError: If there is not exactly one feature map.
    """

    @configurable
    def __init__(
        self,
        input_shape: Mapping[str, ShapeSpec],
        *,
        aspp_channels: int,
        aspp_dilations: Sequence[int],
        aspp_dropout: float,
        num_classes: int,
        common_stride: int,
        norm: Norm,
        train_size: Sequence[int] | None,
        loss_weight: float = 1.0,
        loss_type: str = "cross_entropy",
        ignore_value: int = -1,
        use_depthwise_separable_conv: bool = False,
    ) -> None:
        super().__init__()
        if len(input_shape) != 1:
            raise InputError(
                "DeepLabV3Head: MODEL.SEM_SEG_HEAD.IN_FEATURES must name one feature map of the"
                f" backbone; got {list(input_shape)}; DeepLabV3PlusHead takes several"
            )
        self.in_features = list(input_shape)
        self.ignore_value = ignore_value
        self.common_stride = common_stride
        self.loss_weight = loss_weight
        self.loss_type = loss_type
        self.aspp = ASPP(
            next(iter(input_shape.values())).channels or 1,
            aspp_channels,
            aspp_dilations,
            norm=norm,
            activation=F.relu,
            pool_kernel_size=_pooling_window(train_size, common_stride),
            dropout=aspp_dropout,
            use_depthwise_separable_conv=use_depthwise_separable_conv,
        )
        self.predictor = make_predictor(aspp_channels, num_classes)
        self.loss = make_pixel_loss(loss_type, ignore_value)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> dict[str, Any]:
        head = cfg.MODEL.SEM_SEG_HEAD
        return {
            "input_shape": pick_features(
                "MODEL.SEM_SEG_HEAD.IN_FEATURES", head.IN_FEATURES, input_shape
            ),
            "aspp_channels": head.ASPP_CHANNELS,
            "aspp_dilations": head.ASPP_DILATIONS,
            "aspp_dropout": head.ASPP_DROPOUT,
            "num_classes": head.NUM_CLASSES,
            "common_stride": head.COMMON_STRIDE,
            "norm": head.NORM,
            "train_size": training_size(cfg),
            "loss_weight": head.LOSS_WEIGHT,
            "loss_type": head.LOSS_TYPE,
            "ignore_value": head.IGNORE_VALUE,
            "use_depthwise_separable_conv": head.USE_DEPTHWISE_SEPARABLE_CONV,
        }

    def forward(
        self, features: Features, targets: torch.Tensor | None = None
    ) -> tuple[torch.Tensor | None, dict[str, torch.Tensor]]:
        """See :meth:`DeepLabV3PlusHead.forward`."""
        x = self.predictor(self.aspp(features[self.in_features[0]]))  # (N, K, H / s, W / s)
        if self.training:
            return None, self.losses(x, targets)
        return enlarge(x, self.common_stride), {}

    def losses(self, predictions: torch.Tensor, targets: Any) -> dict[str, torch.Tensor]:
        """Compare logits ``(N, K, H / s, W / s)`` with labels ``(N, H, W)``, at full size."""
        loss = self.loss(enlarge(predictions, self.common_stride), targets)
        return {"loss_sem_seg": loss * self.loss_weight}
