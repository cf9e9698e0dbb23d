"""Mask R-CNN, MViTv2-T, 36 epochs of COCO at 64 images a batch."""

from functools import partial

from torch import nn

from retinue import model_zoo
from retinue.config import LazyCall as L
from retinue.modeling import MViT
from retinue.projects.vitdet.recipes import fast_training, step_schedule

from .common.coco_loader import dataloader

model = model_zoo.get_config("common/models/mask_rcnn_fpn.py").model
constants = model_zoo.get_config("common/data/constants.py").constants
model.pixel_mean = constants.imagenet_rgb256_mean
model.pixel_std = constants.imagenet_rgb256_std
model.input_format = "RGB"

model.backbone.bottom_up = L(MViT)(
    embed_dim=96,
    depth=10,
    num_heads=1,
    last_block_indexes=(0, 2, 7, 9),
    residual_pooling=True,
    drop_path_rate=0.2,
    norm_layer=partial(nn.LayerNorm, eps=1e-6),
    out_features=("scale2", "scale3", "scale4", "scale5"),
)
model.backbone.in_features = "${.bottom_up.out_features}"

dataloader.train.total_batch_size = 64
train = fast_training("detectron2://ImageNetPretrained/mvitv2/MViTv2_T_in1k.pyth")
train.max_iter = 67_500
lr_multiplier = step_schedule(52_500, 62_500, train.max_iter, max_iter=train.max_iter)

optimizer = model_zoo.get_config("common/optim.py").AdamW
optimizer.params.overrides = {
    name: {"weight_decay": 0.0} for name in ("pos_embed", "rel_pos_h", "rel_pos_w")
}
optimizer.lr = 1.6e-4
