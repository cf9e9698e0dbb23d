"""Cascade Mask R-CNN, ViT-H, 75 epochs of COCO."""

from retinue.projects.vitdet.recipes import rescale_schedule, use_vit

from .cascade_mask_rcnn_vitdet_b_100ep import dataloader, lr_multiplier, model, optimizer, train

train.init_checkpoint = (
    "detectron2://ImageNetPretrained/MAE/mae_pretrain_vit_huge_p14to16.pth?matching_heuristics=True"
)
use_vit(
    model,
    optimizer,
    embed_dim=1280,
    depth=32,
    num_heads=16,
    drop_path_rate=0.5,
    lr_decay_rate=0.9,
)
optimizer.params.overrides = {}
optimizer.params.weight_decay_norm = None
rescale_schedule(train, lr_multiplier, 3, of=4)
