"""Semantic segmentation: a class for every pixel.

Shapes
    N images; C channels; D hidden channels; K classes; H, W rows and columns of the padded batch; s
    stride, in pixels, that the head predicts at.

Reading order: SemanticSegmentor.forward runs backbone and head; SemSegFPNHead brings the levels of
a pyramid to one stride, adds them and classifies.

Source: Kirillov et al., "Panoptic Feature Pyramid Networks" (2019),
https://arxiv.org/abs/1901.02446.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import nn

from retinue.config import configurable
from retinue.layers import Conv2d, ShapeSpec, get_norm, weight_init
from retinue.modeling.backbone.backbone import Backbone
from retinue.modeling.backbone.build import build_backbone
from retinue.modeling.catalog import META_ARCH_REGISTRY, SEM_SEG_HEADS_REGISTRY
from retinue.modeling.config_fit import check_parts, pick_features
from retinue.modeling.meta_arch.inputs import (
    ImageDicts,
    image_batch,
    label_maps,
    output_size,
    register_pixel_statistics,
)
from retinue.modeling.postprocessing import sem_seg_postprocess
from retinue.utils.errors import InputError

if TYPE_CHECKING:
    from retinue.config import CfgNode

__all__ = [
    "META_ARCH_REGISTRY",
    "SEM_SEG_HEADS_REGISTRY",
    "SemSegFPNHead",
    "SemanticSegmentor",
    "build_sem_seg_head",
]


def build_sem_seg_head(cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> nn.Module:
    """Build ``cfg.MODEL.SEM_SEG_HEAD.NAME`` for feature maps of these shapes."""
    return SEM_SEG_HEADS_REGISTRY.get(cfg.MODEL.SEM_SEG_HEAD.NAME)(cfg, input_shape)


class SemanticSegmentor(nn.Module):
    """A backbone and a head that classifies pixels.

    Args:
        backbone: maps images to feature maps by name.
        sem_seg_head: maps feature maps and label maps to logits and losses.
        pixel_mean: what is subtracted from each channel of an image.
        pixel_std: what each channel is then divided by.

    Raises:
        InputError: If the statistics differ in length.
        UnknownNameError: If the head takes a feature map that the backbone doesn't give.
    """

    pixel_mean: torch.Tensor
    pixel_std: torch.Tensor

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        sem_seg_head: Any,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
    ) -> None:
        super().__init__()
        check_parts(backbone, sem_seg_head=sem_seg_head)
        self.backbone = backbone
        self.sem_seg_head = sem_seg_head
        register_pixel_statistics(self, pixel_mean, pixel_std)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        backbone = build_backbone(cfg)
        return {
            "backbone": backbone,
            "sem_seg_head": build_sem_seg_head(cfg, backbone.output_shape()),
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
        }

    @property
    def device(self) -> torch.device:
        """The device that the model is on."""
        return self.pixel_mean.device

    def forward(self, batched_inputs: ImageDicts) -> dict[str, torch.Tensor] | list[dict[str, Any]]:
        """Compute losses in training, else class logits.

        Args:
            batched_inputs: a dict for each image: ``image`` ``(C, h, w)``; in training ``sem_seg``
                ``(h, w)`` labels; ``height`` and ``width`` of the output.

        Returns:
            losses by name; or for each image ``{"sem_seg": (K, height, width) logits}``.

        Raises:
            InputError: If an input is missing or has a wrong shape.
        """
        images = image_batch(batched_inputs, self.backbone, self.pixel_mean, self.pixel_std)
        features = self.backbone(images.tensor)  # {"p2": (N, D, H/4, W/4), "p3": ...}
        if self.training:
            labels = label_maps(
                batched_inputs, self.backbone, self.sem_seg_head.ignore_value, self.device
            )  # (N, H, W)
            _, losses = self.sem_seg_head(features, labels)
            return losses
        logits, _ = self.sem_seg_head(features, None)  # (N, K, H, W)
        return [
            {"sem_seg": sem_seg_postprocess(result, size_hw, *output_size(one, size_hw))}
            for result, one, size_hw in zip(logits, batched_inputs, images.image_sizes, strict=True)
        ]


class SemSegFPNHead(nn.Module):
    """Each level convolved and enlarged to one stride, all added, and classified.

    Args:
        input_shape: channels and stride of each feature map, by name.
        num_classes: K.
        conv_dims: channels of the hidden convolutions.
        common_stride: s.
        loss_weight: what the loss is multiplied by.
        norm: a name that ``get_norm`` knows, or a callable from channels to a module; without one,
            the convolutions have biases.
        ignore_value: label of pixels that are not trained on.

    Raises:
        InputError: If there is no feature map.
    """

    @configurable
    def __init__(
        self,
        input_shape: Mapping[str, Any],
        *,
        num_classes: int,
        conv_dims: int,
        common_stride: int,
        loss_weight: float = 1.0,
        norm: str | Callable[[int], nn.Module] | None = None,
        ignore_value: int = -1,
    ) -> None:
        super().__init__()
        if not input_shape:
            raise InputError(
                "SemSegFPNHead: input_shape needs at least one feature map; got none; do the names"
                " in MODEL.SEM_SEG_HEAD.IN_FEATURES exist?"
            )
        self.in_features = sorted(input_shape, key=lambda name: input_shape[name].stride)
        self.ignore_value = ignore_value
        self.common_stride = common_stride
        self.loss_weight = loss_weight
        for name in self.in_features:
            shape = input_shape[name]
            self.add_module(
                name, _enlarging_convs(shape.channels, conv_dims, shape.stride, common_stride, norm)
            )
        self.predictor = Conv2d(conv_dims, num_classes, kernel_size=1)
        weight_init.c2_msra_fill(self.predictor)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        head = cfg.MODEL.SEM_SEG_HEAD
        return {
            "input_shape": pick_features(
                "MODEL.SEM_SEG_HEAD.IN_FEATURES", head.IN_FEATURES, input_shape
            ),
            "num_classes": head.NUM_CLASSES,
            "conv_dims": head.CONVS_DIM,
            "common_stride": head.COMMON_STRIDE,
            "loss_weight": head.LOSS_WEIGHT,
            "norm": head.NORM,
            "ignore_value": head.IGNORE_VALUE,
        }

    @property
    def scale_heads(self) -> list[nn.Module]:
        """The convolutions on each feature map, finest first."""
        return [getattr(self, name) for name in self.in_features]

    def forward(
        self, features: dict[str, torch.Tensor], targets: torch.Tensor | None = None
    ) -> tuple[torch.Tensor | None, dict[str, torch.Tensor]]:
        """Classify every pixel.

        Args:
            features: feature maps by name.
            targets: ``(N, H, W)`` int64 labels, needed in training.

        Returns:
            None and the losses in training; else logits ``(N, K, H, W)`` and nothing.
        """
        logits = self.layers(features)  # (N, K, H / s, W / s)
        if self.training:
            return None, self.losses(logits, targets)
        return self._enlarge(logits), {}

    def layers(self, features: dict[str, torch.Tensor]) -> torch.Tensor:
        """Map feature maps to logits ``(N, K, H / s, W / s)``."""
        levels = [
            head(features[name])
            for name, head in zip(self.in_features, self.scale_heads, strict=True)
        ]
        return self.predictor(sum(levels[1:], levels[0]))

    def losses(
        self, predictions: torch.Tensor, targets: torch.Tensor | None
    ) -> dict[str, torch.Tensor]:
        """Compute the cross entropy at full size, over all pixels that count.

        Args:
            predictions: logits ``(N, K, H / s, W / s)``.
            targets: ``(N, H, W)`` int64 labels.

        Raises:
            InputError: Without ``targets``.
        """
        if targets is None:
            raise InputError("SemSegFPNHead: training needs targets; give 'sem_seg' in each input")
        # Half precision is too coarse for a mean over millions of pixels.
        logits = predictions.to(torch.promote_types(predictions.dtype, torch.float32))
        loss = F.cross_entropy(self._enlarge(logits), targets, ignore_index=self.ignore_value)
        return {"loss_sem_seg": loss * self.loss_weight}

    def _enlarge(self, logits: torch.Tensor) -> torch.Tensor:
        """Interpolate ``(N, K, H / s, W / s)`` to ``(N, K, H, W)``."""
        return F.interpolate(logits, scale_factor=self.common_stride, mode="bilinear")


def _enlarging_convs(
    in_channels: int,
    channels: int,
    stride: int,
    common_stride: int,
    norm: str | Callable[[int], nn.Module] | None,
) -> nn.Sequential:
    """Make 3x3 convolutions, each followed by a doubling, until the common stride is reached."""
    num_doublings = (stride // common_stride).bit_length() - 1
    layers: list[nn.Module] = []
    for i in range(max(1, num_doublings)):
        conv = Conv2d(
            channels if i else in_channels,
            channels,
            kernel_size=3,
            padding=1,
            bias=not norm,
            norm=get_norm(norm, channels),
            activation=F.relu,
        )
        weight_init.c2_msra_fill(conv)
        layers.append(conv)
        if stride != common_stride:
            layers.append(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False))
    return nn.Sequential(*layers)
