"""Cascade Mask R-CNN, MViTv2-H from ImageNet-21K, 50 epochs of LVIS."""

from retinue.projects.vitdet.recipes import WARMUP_ITERS, rescale_schedule

from .cascade_mask_rcnn_mvitv2_b_in21k_100ep import (
    dataloader,
    lr_multiplier,
    model,
    optimizer,
    train,
)

model.backbone.bottom_up.update(
    embed_dim=192,
    depth=80,
    num_heads=3,
    last_block_indexes=(3, 11, 71, 79),
    drop_path_rate=0.6,
    use_act_checkpoint=True,
)
train.init_checkpoint = "detectron2://ImageNetPretrained/mvitv2/MViTv2_H_in21k.pyth"
rescale_schedule(train, lr_multiplier, 1, of=2)
lr_multiplier.warmup_length = WARMUP_ITERS / train.max_iter
optimizer.lr = 2e-5
