"""Cascade Mask R-CNN, MViTv2-L from ImageNet-21K, large-scale jitter, 50 epochs of COCO."""

from retinue.projects.vitdet.recipes import step_schedule

from .cascade_mask_rcnn_mvitv2_b_3x import model, optimizer, train
from .common.coco_loader_lsj import dataloader

model.backbone.bottom_up.update(
    embed_dim=144,
    depth=48,
    num_heads=2,
    last_block_indexes=(1, 7, 43, 47),
    drop_path_rate=0.5,
)
train.init_checkpoint = "detectron2://ImageNetPretrained/mvitv2/MViTv2_L_in21k.pyth"

train.max_iter = 92_187
lr_multiplier = step_schedule(81_944, 88_773, max_iter=train.max_iter)
optimizer.lr = 1e-4
