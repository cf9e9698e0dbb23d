"""What TensorMask predicts at each place of each level.

Shapes
    N images; C channels; A windows a place; K classes; M_a side of the mask of window a; H, W rows
    and columns of a level.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from retinue.config import CfgNode, configurable
from retinue.layers import ShapeSpec
from retinue.projects.tensormask.layers import SwapAlign2Nat

__all__ = ["TensorMaskHead"]

PRIOR = 0.01  # probability of an object at a place, before training


class TensorMaskHead(nn.Module):
    """Branches for classes, boxes and masks, shared by all levels.

    Args:
        num_levels: number of feature maps.
        num_anchors: A.
        mask_sizes: M_a of each window, on the finest level.
        input_shape: channels of each feature map, all the same.
        num_classes: K.
        num_convs: 3x3 convolutions in each branch.
        cls_channels: their channels.
        bbox_channels: likewise.
        mask_channels: likewise.
        mask_on: predict masks.
        align_on: predict them in the pixel's view.
        bipyramid_on: make masks of level l 2**l times as large.
    """

    @configurable
    def __init__(
        self,
        num_levels: int,
        num_anchors: int,
        mask_sizes: Sequence[int],
        input_shape: Sequence[ShapeSpec],
        *,
        num_classes: int,
        num_convs: int = 4,
        cls_channels: int = 256,
        bbox_channels: int = 128,
        mask_channels: int = 128,
        mask_on: bool = True,
        align_on: bool = True,
        bipyramid_on: bool = True,
    ) -> None:
        super().__init__()
        self.mask_on = mask_on
        self.mask_sizes = mask_sizes
        self.align_on = align_on
        self.bipyramid_on = bipyramid_on
        channels = input_shape[0].channels or 1
        self.cls_subnet = _subnet(channels, cls_channels, num_convs)
        self.cls_score = nn.Conv2d(cls_channels, num_anchors * num_classes, 3, padding=1)
        self.bbox_subnet = _subnet(channels, bbox_channels, num_convs)
        self.bbox_pred = nn.Conv2d(bbox_channels, num_anchors * 4, 3, padding=1)
        if mask_on:
            self.mask_subnet = _subnet(channels, mask_channels, num_convs)
            for size in mask_sizes:
                self.add_module(_mask_predictor(size), nn.Conv2d(mask_channels, size**2, 1))
            if align_on and bipyramid_on:
                for level in range(num_levels):
                    self.add_module(f"align2nat_{level:02d}", SwapAlign2Nat(2**level))
            elif align_on:
                self.align2nat = SwapAlign2Nat(1)
            if bipyramid_on:
                self.mask_fuse = _subnet(mask_channels, mask_channels, 1)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d) and layer.bias is not None:
                nn.init.normal_(layer.weight, std=0.01)
                nn.init.zeros_(layer.bias)
        if self.cls_score.bias is not None:
            nn.init.constant_(self.cls_score.bias, -math.log((1 - PRIOR) / PRIOR))

    @classmethod
    def from_config(
        cls,
        cfg: CfgNode,
        num_levels: int,
        num_anchors: int,
        mask_sizes: Sequence[int],
        input_shape: Sequence[ShapeSpec],
    ) -> dict[str, Any]:
        own = cfg.MODEL.TENSOR_MASK
        return {
            "num_levels": num_levels,
            "num_anchors": num_anchors,
            "mask_sizes": mask_sizes,
            "input_shape": input_shape,
            "num_classes": own.NUM_CLASSES,
            "num_convs": own.NUM_CONVS,
            "cls_channels": own.CLS_CHANNELS,
            "bbox_channels": own.BBOX_CHANNELS,
            "mask_channels": own.MASK_CHANNELS,
            "mask_on": cfg.MODEL.MASK_ON,
            "align_on": own.ALIGNED_ON,
            "bipyramid_on": own.BIPYRAMID_ON,
        }

    def forward(
        self, features: Sequence[torch.Tensor]
    ) -> tuple[list[torch.Tensor], list[torch.Tensor], list[list[torch.Tensor]] | None]:
        """Predict on feature maps, finest first.

        Returns:
            Per level class logits ``(N, A K, H, W)`` and box deltas ``(N, A 4, H, W)``; per level
            and window mask logits ``(N, M M, H, W)``, or None without masks.
        """
        logits = [self.cls_score(self.cls_subnet(x)) for x in features]
        deltas = [self.bbox_pred(self.bbox_subnet(x)) for x in features]
        return logits, deltas, self._masks(features) if self.mask_on else None

    def _masks(self, features: Sequence[torch.Tensor]) -> list[list[torch.Tensor]]:
        maps = [self.mask_subnet(x) for x in features]
        if self.bipyramid_on:  # bring every level to the finest resolution
            finest = maps[0]
            height, width = finest.shape[-2:]
            for level in range(len(maps)):
                x = maps[level]
                if level:
                    x = F.interpolate(x, scale_factor=2**level, mode="bilinear")
                maps[level] = self.mask_fuse(x[:, :, :height, :width] + finest)
        return [
            [
                self._to_natural(level, getattr(self, _mask_predictor(size))(x))
                for size in self.mask_sizes
            ]
            for level, x in enumerate(maps)
        ]

    def _to_natural(self, level: int, masks: torch.Tensor) -> torch.Tensor:
        if not self.align_on:
            return masks
        name = f"align2nat_{level:02d}" if self.bipyramid_on else "align2nat"
        return getattr(self, name)(masks)


def _mask_predictor(size: int) -> str:
    return f"mask_pred_{size:02d}"


def _subnet(in_channels: int, channels: int, num_convs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for i in range(num_convs):
        layers += [nn.Conv2d(channels if i else in_channels, channels, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers)
