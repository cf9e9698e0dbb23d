"""What is predicted at a point: a small network on the features there.

Shapes
    R regions or images; C channels; K classes; P points.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from retinue.config import CfgNode, configurable
from retinue.layers import ShapeSpec
from retinue.layers.weight_init import c2_msra_fill
from retinue.structures import Instances
from retinue.utils.errors import InputError
from retinue.utils.events import log_scalars
from retinue.utils.registry import Registry

__all__ = [
    "POINT_HEAD_REGISTRY",
    "ImplicitPointHead",
    "StandardPointHead",
    "build_point_head",
    "roi_mask_point_loss",
]

_HERE = "retinue.projects.point_rend.point_head"
POINT_HEAD_REGISTRY = Registry(
    "POINT_HEAD",
    {
        "ImplicitPointHead": f"{_HERE}:ImplicitPointHead",
        "StandardPointHead": f"{_HERE}:StandardPointHead",
    },
    key="MODEL.POINT_HEAD.NAME",
)

NUM_FREQUENCIES = 128  # of the positional encoding; each gives a sine and a cosine


def build_point_head(cfg: CfgNode, input_channels: ShapeSpec) -> nn.Module:
    """Build the head that ``cfg.MODEL.POINT_HEAD.NAME`` names, for features of this shape."""
    return POINT_HEAD_REGISTRY.get(cfg.MODEL.POINT_HEAD.NAME)(cfg, input_channels)


def roi_mask_point_loss(
    mask_logits: torch.Tensor, instances: Sequence[Instances], point_labels: torch.Tensor
) -> torch.Tensor:
    """Compare mask values at points with the truth.

    Args:
        mask_logits: ``(R, K, P)``, or ``(R, 1, P)`` where classes share a mask.
        instances: per image, in the same order, with ``gt_classes``.
        point_labels: ``(R, P)`` in [0, 1]; -1 is ignored.

    Returns:
        Binary cross entropy, summed over the points that count and divided by R P; 0 if R is 0.
    """
    if not len(point_labels):
        return mask_logits.sum() * 0
    logits = mask_logits[:, 0]  # (R, P)
    if mask_logits.shape[1] > 1:
        classes = torch.cat([i.gt_classes for i in instances if len(i)]).long()
        logits = mask_logits[torch.arange(len(classes), device=classes.device), classes]
    counts = point_labels != -1
    right = ((logits > 0) == point_labels.byte()) & counts
    log_scalars({"point/accuracy": right.sum() / counts.sum().clamp(min=1)})
    return F.binary_cross_entropy_with_logits(
        logits, point_labels.to(logits.dtype), weight=counts.to(logits.dtype)
    )


class StandardPointHead(nn.Module):
    """Layers over the features at a point and the coarse prediction there.

    Args:
        input_shape: its channels are those of the features.
        num_classes: K, the channels of the coarse prediction.
        fc_dims: channels of each hidden layer.
        cls_agnostic_mask: predict one value for all classes.
        coarse_pred_each_layer: show the coarse prediction to every layer, not to the first alone.
    """

    @configurable
    def __init__(
        self,
        input_shape: ShapeSpec,
        *,
        num_classes: int,
        fc_dims: Sequence[int],
        cls_agnostic_mask: bool = False,
        coarse_pred_each_layer: bool = True,
    ) -> None:
        super().__init__()
        self.coarse_pred_each_layer = coarse_pred_each_layer
        channels = (input_shape.channels or 0) + num_classes
        self.fc_layers = []
        for k, dim in enumerate(fc_dims, start=1):
            layer = nn.Conv1d(channels, dim, kernel_size=1)
            c2_msra_fill(layer)
            self.add_module(f"fc{k}", layer)
            self.fc_layers.append(layer)
            channels = dim + (num_classes if coarse_pred_each_layer else 0)
        self.predictor = nn.Conv1d(channels, 1 if cls_agnostic_mask else num_classes, kernel_size=1)
        nn.init.normal_(self.predictor.weight, std=0.001)
        nn.init.zeros_(self.predictor.bias)  # type: ignore[arg-type]

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        head = cfg.MODEL.POINT_HEAD
        return {
            "input_shape": input_shape,
            "num_classes": head.NUM_CLASSES,
            "fc_dims": [head.FC_DIM] * head.NUM_FC,
            "cls_agnostic_mask": head.CLS_AGNOSTIC_MASK,
            "coarse_pred_each_layer": head.COARSE_PRED_EACH_LAYER,
        }

    def forward(
        self, fine_grained_features: torch.Tensor, coarse_features: torch.Tensor
    ) -> torch.Tensor:
        """Map ``(R, C, P)`` features and ``(R, K, P)`` coarse logits to ``(R, K, P)`` logits."""
        x = torch.cat((fine_grained_features, coarse_features), dim=1)
        for layer in self.fc_layers:
            x = F.relu(layer(x))
            if self.coarse_pred_each_layer:
                x = torch.cat((x, coarse_features), dim=1)
        return self.predictor(x)


class ImplicitPointHead(nn.Module):
    """Layers whose weights are given for each region; the mask is a function of the point.

    Cheng et al., "Pointly-Supervised Instance Segmentation" (2022), section 5,
    https://arxiv.org/abs/2104.06404.

    Args:
        input_shape: its channels are those of the image features at a point.
        num_classes: K; 1 for one mask shared by all classes.
        channels: of each hidden layer.
        num_layers: at least 2, the last one included.
        image_feature_enabled: let it see the image features at the point.
        positional_encoding_enabled: let it see where in the box the point is: sines and cosines of
            128 random frequencies, https://arxiv.org/abs/2006.10739.

    Raises:
        InputError: If it would see nothing, or has fewer than two layers.
    """

    positional_encoding_gaussian_matrix: torch.Tensor

    @configurable
    def __init__(
        self,
        input_shape: ShapeSpec,
        *,
        num_classes: int,
        channels: int,
        num_layers: int,
        image_feature_enabled: bool = True,
        positional_encoding_enabled: bool = True,
    ) -> None:
        super().__init__()
        if num_layers < 2 or not (image_feature_enabled or positional_encoding_enabled):
            raise InputError(
                "ImplicitPointHead: expected MODEL.POINT_HEAD.NUM_FC of at least 1, and"
                " MODEL.IMPLICIT_POINTREND.IMAGE_FEATURE_ENABLED or POS_ENC_ENABLED; got"
                f" {num_layers - 1}, {image_feature_enabled} and {positional_encoding_enabled}"
            )
        self.num_layers = num_layers
        self.channels = channels
        self.num_classes = num_classes
        self.image_feature_enabled = image_feature_enabled
        self.positional_encoding_enabled = positional_encoding_enabled
        self.in_channels = (input_shape.channels or 0) if image_feature_enabled else 0
        if positional_encoding_enabled:
            self.in_channels += 2 * NUM_FREQUENCIES
            frequencies = torch.randn(2, NUM_FREQUENCIES)
            self.register_buffer("positional_encoding_gaussian_matrix", frequencies)

        dims = [self.in_channels, *[channels] * (num_layers - 1), num_classes]
        self.num_weight_params = [a * b for a, b in itertools.pairwise(dims)]
        self.num_bias_params = dims[1:]
        self.num_params = sum(self.num_weight_params) + sum(self.num_bias_params)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        head, implicit = cfg.MODEL.POINT_HEAD, cfg.MODEL.IMPLICIT_POINTREND
        return {
            "input_shape": input_shape,
            "num_classes": 1 if head.CLS_AGNOSTIC_MASK else head.NUM_CLASSES,
            "channels": head.FC_DIM,
            "num_layers": head.NUM_FC + 1,
            "image_feature_enabled": implicit.IMAGE_FEATURE_ENABLED,
            "positional_encoding_enabled": implicit.POS_ENC_ENABLED,
        }

    def forward(
        self,
        fine_grained_features: torch.Tensor,
        point_coords: torch.Tensor,
        parameters: torch.Tensor,
    ) -> torch.Tensor:
        """Compute mask values at points.

        Args:
            fine_grained_features: ``(R, C, P)`` image features at the points.
            point_coords: ``(R, P, 2)`` in [0, 1] of the box.
            parameters: ``(R, num_params)``: all weights, first layer to last, then all biases.

        Returns:
            ``(R, K, P)`` logits.
        """
        seen = []
        if self.positional_encoding_enabled:
            matrix = self.positional_encoding_gaussian_matrix
            phase = 2 * math.pi * ((2 * point_coords.to(matrix.dtype) - 1) @ matrix)  # (R, P, 128)
            seen.append(torch.cat((phase.sin(), phase.cos()), dim=2).transpose(1, 2))
        if self.image_feature_enabled:
            seen.append(fine_grained_features)
        x = torch.cat(seen, dim=1)  # (R, in_channels, P)

        weights, biases = self._parse_params(
            parameters,
            self.in_channels,
            self.channels,
            self.num_classes,
            self.num_weight_params,
            self.num_bias_params,
        )
        return self._dynamic_mlp(x, weights, biases, len(parameters))

    @staticmethod
    def _parse_params(
        pred_params: torch.Tensor,
        in_channels: int,
        channels: int,
        num_classes: int,
        num_weight_params: Sequence[int],
        num_bias_params: Sequence[int],
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Cut ``(R, num_params)`` into weights ``(R, out, in)`` and biases ``(R, out, 1)``."""
        parts = pred_params.split([*num_weight_params, *num_bias_params], dim=1)
        num_layers = len(num_weight_params)
        dims = [in_channels, *[channels] * (num_layers - 1), num_classes]
        weights = [
            part.reshape(-1, dim_out, dim_in)
            for part, (dim_in, dim_out) in zip(parts, itertools.pairwise(dims), strict=False)
        ]
        return weights, [part[:, :, None] for part in parts[num_layers:]]

    @staticmethod
    def _dynamic_mlp(
        features: torch.Tensor,
        weights: Sequence[torch.Tensor],
        biases: Sequence[torch.Tensor],
        num_instances: int,
    ) -> torch.Tensor:
        """Send ``(R, C, P)`` through the layers of each of the R regions: ``(R, K, P)``."""
        x = features
        for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
            x = F.relu(torch.baddbmm(bias, weight, x))  # (R, out, P)
        return torch.baddbmm(biases[-1], weights[-1], x)
