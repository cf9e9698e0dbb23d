"""Cascade Mask R-CNN, ViT-H, 100 epochs of LVIS."""

from retinue.projects.vitdet.recipes import use_vit

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
    drop_path_rate=0.4,
    lr_decay_rate=0.9,
)
optimizer.params.overrides = {}
optimizer.params.weight_decay_norm = None
optimizer.lr = 1e-4
