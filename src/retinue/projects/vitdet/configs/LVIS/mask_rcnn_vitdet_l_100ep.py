"""Mask R-CNN, ViT-L, 100 epochs of LVIS."""

from retinue.projects.vitdet.recipes import use_vit

from .mask_rcnn_vitdet_b_100ep import dataloader, lr_multiplier, model, optimizer, train

train.init_checkpoint = (
    "detectron2://ImageNetPretrained/MAE/mae_pretrain_vit_large.pth?matching_heuristics=True"
)
use_vit(
    model,
    optimizer,
    embed_dim=1024,
    depth=24,
    num_heads=16,
    drop_path_rate=0.4,
    lr_decay_rate=0.8,
)
