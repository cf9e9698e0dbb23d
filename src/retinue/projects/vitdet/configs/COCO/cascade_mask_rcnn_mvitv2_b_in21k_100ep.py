"""Cascade Mask R-CNN, MViTv2-B from ImageNet-21K, 100 epochs of COCO at 64 images a batch."""

from functools import partial

from torch import nn

from retinue import model_zoo
from retinue.config import LazyCall as L
from retinue.modeling import MViT
from retinue.projects.vitdet.recipes import fast_training, step_schedule, use_cascade

from ..common.coco_loader_lsj import dataloader

model = model_zoo.get_config("common/models/mask_rcnn_fpn.py").model
constants = model_zoo.get_config("common/data/constants.py").constants
model.pixel_mean = constants.imagenet_rgb256_mean
model.pixel_std = constants.imagenet_rgb256_std
model.input_format = "RGB"

model.backbone.bottom_up = L(MViT)(
    embed_dim=96,
    depth=24,
    num_heads=1,
    last_block_indexes=(1, 4, 20, 23),
    residual_pooling=True,
    drop_path_rate=0.4,
    norm_layer=partial(nn.LayerNorm, eps=1e-6),
    out_features=("scale2", "scale3", "scale4", "scale5"),
)
model.backbone.in_features = "${.bottom_up.out_features}"
model.backbone.square_pad = 1024
model.backbone.norm = "LN"
model.proposal_generator.head.conv_dims = [-1, -1]
model.roi_heads.mask_head.conv_norm = "LN"
use_cascade(model)

train = fast_training("detectron2://ImageNetPretrained/mvitv2/MViTv2_B_in21k.pyth")
train.max_iter = 184_375
lr_multiplier = step_schedule(163_889, 177_546, max_iter=train.max_iter)

optimizer = model_zoo.get_config("common/optim.py").AdamW
optimizer.params.overrides = {"pos_embed": {"weight_decay": 0.0}}
optimizer.lr = 8e-5
