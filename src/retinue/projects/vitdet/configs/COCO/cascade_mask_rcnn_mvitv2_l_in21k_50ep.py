"""Cascade Mask R-CNN, MViTv2-L from ImageNet-21K, 50 epochs of COCO."""

from retinue.projects.vitdet.recipes import rescale_schedule

from .cascade_mask_rcnn_mvitv2_b_in21k_100ep import (
    dataloader,
    lr_multiplier,
    model,
    optimizer,
    train,
)

model.backbone.bottom_up.update(
    embed_dim=144,
    depth=48,
    num_heads=2,
    last_block_indexes=(1, 7, 43, 47),
    drop_path_rate=0.5,
)
train.init_checkpoint = "detectron2://ImageNetPretrained/mvitv2/MViTv2_L_in21k.pyth"
rescale_schedule(train, lr_multiplier, 1, of=2)
