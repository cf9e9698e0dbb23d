"""Cascade Mask R-CNN, MViTv2-H from ImageNet-21K, large-scale jitter, 36 epochs of COCO."""

from .cascade_mask_rcnn_mvitv2_b_3x import lr_multiplier, model, optimizer, train
from .common.coco_loader_lsj import dataloader

model.backbone.bottom_up.update(
    embed_dim=192,
    depth=80,
    num_heads=3,
    last_block_indexes=(3, 11, 71, 79),
    drop_path_rate=0.6,
    use_act_checkpoint=True,
)
train.init_checkpoint = "detectron2://ImageNetPretrained/mvitv2/MViTv2_H_in21k.pyth"
