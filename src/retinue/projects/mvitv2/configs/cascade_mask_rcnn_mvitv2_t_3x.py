"""Cascade Mask R-CNN, MViTv2-T, 36 epochs of COCO."""

from retinue.layers.batch_norm import NaiveSyncBatchNorm
from retinue.projects.vitdet.recipes import use_cascade

from .mask_rcnn_mvitv2_t_3x import dataloader, lr_multiplier, model, optimizer, train


def _norm(channels: int) -> NaiveSyncBatchNorm:
    """Batch norm over all devices that a device without regions can take part in."""
    return NaiveSyncBatchNorm(channels, stats_mode="N")


use_cascade(model, conv_norm=_norm)
model.roi_heads.mask_head.conv_norm = _norm
model.proposal_generator.head.conv_dims = [-1, -1]
