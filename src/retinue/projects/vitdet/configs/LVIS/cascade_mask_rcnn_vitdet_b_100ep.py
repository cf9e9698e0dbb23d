"""Cascade Mask R-CNN, ViT-B, 100 epochs of LVIS."""

from retinue.projects.vitdet.recipes import use_lvis, use_lvis_schedule

from ..COCO.cascade_mask_rcnn_vitdet_b_100ep import (
    dataloader,
    lr_multiplier,
    model,
    optimizer,
    train,
)

use_lvis(dataloader, *model.roi_heads.box_predictors)
use_lvis_schedule(train, lr_multiplier)
model.roi_heads.num_classes = 1203
optimizer.lr = 2e-4
