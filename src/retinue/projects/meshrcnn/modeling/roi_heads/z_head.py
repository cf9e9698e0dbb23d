"""The depth branch: how far an object reaches along the line of sight.

Its distance can't be seen in one picture, its extent relative to that distance can. What is learned
is ``log(dz / box height)``, with ``dz = focal length * (z1 - z0) / z centre`` in pixels: then
neither focal length nor scale of the picture matters (Mesh R-CNN, appendix B).

Shapes
    R regions, all images together; K object classes, 1 where all share a prediction; C channels;
    S side of a pooled region.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from retinue.config import CfgNode, configurable
from retinue.layers import ShapeSpec
from retinue.layers.losses import smooth_l1_loss
from retinue.layers.weight_init import c2_xavier_fill
from retinue.projects.meshrcnn.modeling.roi_heads.mask_head import of_class, of_true_class
from retinue.structures import Instances
from retinue.utils.registry import Registry

__all__ = [
    "ROI_Z_HEAD_REGISTRY",
    "FastRCNNFCHead",
    "build_z_head",
    "z_rcnn_inference",
    "z_rcnn_loss",
]

ROI_Z_HEAD_REGISTRY = Registry(
    "ROI_Z_HEAD",
    {"FastRCNNFCHead": "retinue.projects.meshrcnn.modeling.roi_heads.z_head:FastRCNNFCHead"},
    key="MODEL.ROI_Z_HEAD.NAME",
)

MAX_LOG_RATIO = math.log(1000 / 16)  # as for boxes: what is greater can't be meant


def build_z_head(cfg: CfgNode, input_shape: ShapeSpec) -> nn.Module:
    """Build the head that ``cfg.MODEL.ROI_Z_HEAD.NAME`` names."""
    return ROI_Z_HEAD_REGISTRY.get(cfg.MODEL.ROI_Z_HEAD.NAME)(cfg, input_shape)


class FastRCNNFCHead(nn.Module):
    """Fully connected layers over pooled features, then one number a class.

    Args:
        input_shape: shape of one region's features.
        fc_dims: width of each hidden layer.
        num_classes: K.
    """

    @configurable
    def __init__(self, input_shape: ShapeSpec, *, fc_dims: Sequence[int], num_classes: int) -> None:
        super().__init__()
        side = (input_shape.height or 1) * (input_shape.width or 1)
        dims = [(input_shape.channels or 1) * side, *fc_dims]
        self.fcs = []
        for k, (before, after) in enumerate(itertools.pairwise(dims), start=1):
            layer = nn.Linear(before, after)
            c2_xavier_fill(layer)
            self.add_module(f"z_fc{k}", layer)
            self.fcs.append(layer)
        self.z_pred = nn.Linear(dims[-1], num_classes)
        nn.init.normal_(self.z_pred.weight, std=0.001)
        nn.init.zeros_(self.z_pred.bias)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        head = cfg.MODEL.ROI_Z_HEAD
        return {
            "input_shape": input_shape,
            "fc_dims": [head.FC_DIM] * head.NUM_FC,
            "num_classes": 1 if head.CLS_AGNOSTIC_Z_REG else cfg.MODEL.ROI_HEADS.NUM_CLASSES,
        }

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(R, C, S, S)`` region features to ``(R, K)``."""
        x = x.flatten(start_dim=1)
        for layer in self.fcs:
            x = layer(x).relu()
        return self.z_pred(x)


def z_rcnn_loss(
    z_pred: torch.Tensor,
    instances: Sequence[Instances],
    src_boxes: torch.Tensor,
    loss_weight: float = 1.0,
    smooth_l1_beta: float = 0.0,
) -> torch.Tensor:
    """Compare predicted extents with the truth.

    Args:
        z_pred: ``(R, K)``, or ``(R, 1)`` where classes share it.
        instances: per image, in the same order, with ``gt_dz`` in pixels and ``gt_classes``.
        src_boxes: ``(R, 4)`` the regions.
        loss_weight: factor of the loss.
        smooth_l1_beta: see :func:`retinue.layers.losses.smooth_l1_loss`.

    Returns:
        Mean over regions; 0 without any.
    """
    chosen = of_true_class(z_pred, instances)
    if not len(chosen):
        return z_pred.sum() * 0
    dz = torch.cat([i.gt_dz for i in instances if len(i)])
    target = (dz / (src_boxes[:, 3] - src_boxes[:, 1])).log()
    return loss_weight * smooth_l1_loss(chosen, target.to(chosen), smooth_l1_beta, "mean")


def z_rcnn_inference(z_pred: torch.Tensor, pred_instances: Sequence[Instances]) -> None:
    """Give each detection its extent as a multiple of its box's height: ``pred_dz``, in place.

    Args:
        z_pred: ``(R, K)``, or ``(R, 1)`` where classes share it.
        pred_instances: per image, in the same order, with ``pred_classes``. ``pred_dz`` becomes
            ``(R_i, 1)``.
    """
    chosen = of_class(z_pred, [i.pred_classes for i in pred_instances])
    ratios = chosen.clamp(max=MAX_LOG_RATIO).exp()[:, None]
    sizes = [len(i) for i in pred_instances]
    for ratio, instances in zip(ratios.split(sizes), pred_instances, strict=True):
        instances.pred_dz = ratio
