"""Cascade Mask R-CNN, ViT-B, 100 epochs of COCO."""

from retinue.projects.vitdet.recipes import use_cascade

from .mask_rcnn_vitdet_b_100ep import dataloader, lr_multiplier, model, optimizer, train

use_cascade(model)
