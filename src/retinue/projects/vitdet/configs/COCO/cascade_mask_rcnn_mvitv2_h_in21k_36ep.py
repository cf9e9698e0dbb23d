"""Cascade Mask R-CNN, MViTv2-H from ImageNet-21K, 36 epochs of COCO."""

from retinue.projects.vitdet.recipes import step_schedule

from .cascade_mask_rcnn_mvitv2_b_in21k_100ep import dataloader, model, optimizer, train

model.backbone.bottom_up.update(
    embed_dim=192,
    depth=80,
    num_heads=3,
    last_block_indexes=(3, 11, 71, 79),
    drop_path_rate=0.6,
    use_act_checkpoint=True,
)
train.init_checkpoint = "detectron2://ImageNetPretrained/mvitv2/MViTv2_H_in21k.pyth"
train.max_iter = 67_500
lr_multiplier = step_schedule(52_500, 62_500, train.max_iter, max_iter=train.max_iter)
optimizer.lr = 1.6e-4
