"""The voxel branch: a coarse solid, as a mask with depth.

A 1x1 convolution gives each cell of the region D values, one a step along the line of sight: a
picture's features, stacked in depth, with no 3D convolution (Mesh R-CNN, section 3.2).

Shapes
    R regions, all images together; K object classes, 1 where all share voxels; C channels; S side
    of a pooled region; V = 2 S side of the grid, along z, y and x.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from retinue.config import CfgNode, configurable
from retinue.layers import ShapeSpec
from retinue.projects.meshrcnn.modeling.roi_heads.mask_head import of_class, of_true_class
from retinue.projects.meshrcnn.structures.voxel import batch_crop_voxels_within_box
from retinue.projects.meshrcnn.voxel_columns import VoxelColumns
from retinue.structures import Instances
from retinue.utils.errors import InputError
from retinue.utils.events import log_scalars
from retinue.utils.registry import Registry

__all__ = [
    "ROI_VOXEL_HEAD_REGISTRY",
    "VoxelRCNNConvUpsampleHead",
    "build_voxel_head",
    "voxel_rcnn_inference",
    "voxel_rcnn_loss",
]

_HERE = "retinue.projects.meshrcnn.modeling.roi_heads.voxel_head"
ROI_VOXEL_HEAD_REGISTRY = Registry(
    "ROI_VOXEL_HEAD",
    {"VoxelRCNNConvUpsampleHead": f"{_HERE}:VoxelRCNNConvUpsampleHead"},
    key="MODEL.ROI_VOXEL_HEAD.NAME",
)


def build_voxel_head(cfg: CfgNode, input_shape: ShapeSpec) -> nn.Module:
    """Build the head that ``cfg.MODEL.ROI_VOXEL_HEAD.NAME`` names."""
    return ROI_VOXEL_HEAD_REGISTRY.get(cfg.MODEL.ROI_VOXEL_HEAD.NAME)(cfg, input_shape)


class VoxelRCNNConvUpsampleHead(VoxelColumns):
    """The columns of each class above each cell of a region.

    Args:
        input_shape: shape of one region's features.
        num_classes: K; 1 for one grid shared by all classes.
        num_depth: steps along z.
        conv_dim: width of all layers.
        num_conv: how many 3x3 convolutions.
        norm: after each of them, as :func:`retinue.layers.get_norm` takes it.
    """

    @configurable
    def __init__(
        self,
        input_shape: ShapeSpec,
        *,
        num_classes: int,
        num_depth: int,
        conv_dim: int = 256,
        num_conv: int = 0,
        norm: str = "",
    ) -> None:
        super().__init__(
            input_shape.channels or 1,
            num_classes * num_depth,
            conv_dim=conv_dim,
            num_conv=num_conv,
            norm=norm,
        )
        self.num_classes = num_classes
        self.num_depth = num_depth

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        head = cfg.MODEL.ROI_VOXEL_HEAD
        if head.NUM_DEPTH != 2 * head.POOLER_RESOLUTION:
            raise InputError(
                "MODEL.ROI_VOXEL_HEAD: the grid must be a cube, NUM_DEPTH twice"
                f" POOLER_RESOLUTION; got {head.NUM_DEPTH} and {head.POOLER_RESOLUTION}"
            )
        return {
            "input_shape": input_shape,
            "num_classes": 1 if head.CLS_AGNOSTIC_VOXEL else cfg.MODEL.ROI_HEADS.NUM_CLASSES,
            "num_depth": head.NUM_DEPTH,
            "conv_dim": head.CONV_DIM,
            "num_conv": head.NUM_CONV,
            "norm": head.NORM,
        }

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(R, C, S, S)`` region features to ``(R, K, V, V, V)`` logits."""
        return self.columns(x).unflatten(1, (self.num_classes, self.num_depth))


def voxel_rcnn_loss(
    pred_voxel_logits: torch.Tensor, instances: Sequence[Instances], loss_weight: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compare each region's voxels, of its true class, with the truth in the region.

    Args:
        pred_voxel_logits: ``(R, K, V, V, V)``, or ``(R, 1, V, V, V)`` where classes share a grid.
        instances: per image, in the same order, with ``proposal_boxes``, ``gt_classes``,
            ``gt_voxels`` in camera space, and ``gt_K``.
        loss_weight: factor of the loss.

    Returns:
        Mean binary cross entropy, 0 without regions, and the true voxels ``(R, V, V, V)``.

    Raises:
        InputError: If the grid is no cube.
    """
    side = pred_voxel_logits.shape[2]
    if set(pred_voxel_logits.shape[2:]) != {side}:
        raise InputError(
            "voxel_rcnn_loss: the grid must be a cube; got"
            f" {tuple(pred_voxel_logits.shape[2:])} voxels"
        )
    target = torch.cat(
        [pred_voxel_logits.new_zeros(0, side, side, side)]
        + [
            batch_crop_voxels_within_box(i.gt_voxels, i.proposal_boxes.tensor, i.gt_K, side)
            for i in instances
            if len(i)
        ]
    )
    logits = of_true_class(pred_voxel_logits, instances)
    if not len(target):
        return logits.sum() * 0, target
    log_scalars({"voxel_rcnn/accuracy": ((logits > 0.5) == (target > 0.5)).float().mean()})
    loss = F.binary_cross_entropy_with_logits(logits, target.to(logits))
    return loss * loss_weight, target


def voxel_rcnn_inference(
    pred_voxel_logits: torch.Tensor, pred_instances: Sequence[Instances]
) -> None:
    """Give each detection the voxels of its class: sets ``pred_voxels``, in place.

    Args:
        pred_voxel_logits: ``(R, K, V, V, V)``, or ``(R, 1, V, V, V)`` where classes share a grid.
        pred_instances: per image, in the same order, with ``pred_classes``. ``pred_voxels`` becomes
            ``(R_i, 1, V, V, V)`` probabilities.
    """
    chosen = of_class(pred_voxel_logits, [i.pred_classes for i in pred_instances])
    sizes = [len(i) for i in pred_instances]
    for voxels, instances in zip(
        chosen[:, None].sigmoid().split(sizes), pred_instances, strict=True
    ):
        instances.pred_voxels = voxels
