"""The box head: from a pooled region to the vector that classes and boxes are predicted from.

Shapes
    R regions, all images together; C channels; S side of a pooled region, in cells; D output width.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from retinue.config import CfgNode, configurable
from retinue.layers import Conv2d, ShapeSpec, get_norm
from retinue.layers.weight_init import c2_msra_fill, c2_xavier_fill
from retinue.modeling.catalog import ROI_BOX_HEAD_REGISTRY
from retinue.utils.errors import InputError

__all__ = ["ROI_BOX_HEAD_REGISTRY", "FastRCNNConvFCHead", "build_box_head"]


class FastRCNNConvFCHead(nn.Sequential):
    """3x3 convolutions with norm and ReLU, then fully connected layers with ReLU.

    Two fully connected layers are the head of Faster R-CNN with FPN (Lin et al. 2017, section 4.2,
    https://arxiv.org/abs/1612.03144); four convolutions and one fully connected layer that of
    "Group Normalization" (Wu & He 2018, https://arxiv.org/abs/1803.08494).

    Args:
        input_shape: channels, height and width of one pooled region, in feature cells.
        conv_dims: output channels of each convolution, first to last.
        fc_dims: output width of each fully connected layer, first to last.
        conv_norm: norm after each convolution, as :func:`retinue.layers.get_norm` takes it.

    Raises:
        InputError: If there is no layer at all.
    """

    @configurable
    def __init__(
        self,
        input_shape: ShapeSpec,
        *,
        conv_dims: Sequence[int],
        fc_dims: Sequence[int],
        conv_norm: str | Callable[[int], nn.Module] = "",
    ) -> None:
        super().__init__()
        if not conv_dims and not fc_dims:
            raise InputError(
                "FastRCNNConvFCHead: conv_dims and fc_dims are both empty; name at least one layer"
                " (MODEL.ROI_BOX_HEAD.NUM_CONV, NUM_FC)"
            )
        channels = input_shape.channels or 1
        height, width = input_shape.height, input_shape.width
        self.conv_norm_relus = []
        for k, dim in enumerate(conv_dims, start=1):
            conv = Conv2d(
                channels,
                dim,
                kernel_size=3,
                padding=1,
                bias=not conv_norm,
                norm=get_norm(conv_norm, dim),
                activation=nn.ReLU(),
            )
            self.add_module(f"conv{k}", conv)
            self.conv_norm_relus.append(conv)
            channels = dim
        self._output_size: int | Sequence[int | None] = (channels, height, width)

        self.fcs = []
        if fc_dims:
            self.flatten = nn.Flatten()
            size = math.prod((channels, height or 1, width or 1))
            for k, dim in enumerate(fc_dims, start=1):
                fc = nn.Linear(size, dim)
                self.add_module(f"fc{k}", fc)
                self.add_module(f"fc_relu{k}", nn.ReLU())
                self.fcs.append(fc)
                size = dim
            self._output_size = size

        # After all have been made, so that a seed gives the weights that it gives in detectron2.
        for conv in self.conv_norm_relus:
            c2_msra_fill(conv)
        for fc in self.fcs:
            c2_xavier_fill(fc)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        head = cfg.MODEL.ROI_BOX_HEAD
        return {
            "input_shape": input_shape,
            "conv_dims": [head.CONV_DIM] * head.NUM_CONV,
            "fc_dims": [head.FC_DIM] * head.NUM_FC,
            "conv_norm": head.NORM,
        }

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(R, C, S, S)`` region features to ``(R, D)``, or ``(R, D, S, S)`` without fc."""
        for layer in self:
            x = layer(x)
        return x

    @property
    def output_shape(self) -> ShapeSpec:
        """Shape of one region's output; height and width are None after a fully connected layer."""
        size = self._output_size  # which subclasses set, too
        return ShapeSpec(channels=size) if isinstance(size, int) else ShapeSpec(*size)


def build_box_head(cfg: CfgNode, input_shape: ShapeSpec) -> nn.Module:
    """Build the head that ``cfg.MODEL.ROI_BOX_HEAD.NAME`` names."""
    return ROI_BOX_HEAD_REGISTRY.get(cfg.MODEL.ROI_BOX_HEAD.NAME)(cfg, input_shape)
