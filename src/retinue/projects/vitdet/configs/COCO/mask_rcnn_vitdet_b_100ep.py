"""Mask R-CNN, ViT-B, 100 epochs of COCO at 64 images a batch."""

from functools import partial

from retinue import model_zoo
from retinue.modeling.backbone.vit import get_vit_lr_decay_rate
from retinue.projects.vitdet.recipes import fast_training, step_schedule

from ..common.coco_loader_lsj import dataloader

model = model_zoo.get_config("common/models/mask_rcnn_vitdet.py").model

train = fast_training(
    "detectron2://ImageNetPretrained/MAE/mae_pretrain_vit_base.pth?matching_heuristics=True"
)
train.max_iter = 184_375
lr_multiplier = step_schedule(163_889, 177_546, max_iter=train.max_iter)

optimizer = model_zoo.get_config("common/optim.py").AdamW
optimizer.params.lr_factor_func = partial(get_vit_lr_decay_rate, num_layers=12, lr_decay_rate=0.7)
optimizer.params.overrides = {"pos_embed": {"weight_decay": 0.0}}
