"""Cascade Mask R-CNN, Swin-B from ImageNet-21K, 50 epochs of COCO."""

from retinue import model_zoo
from retinue.config import LazyCall as L
from retinue.modeling import SwinTransformer
from retinue.projects.vitdet.recipes import fast_training, rescale_schedule, step_schedule

from ..common.coco_loader_lsj import dataloader
from .cascade_mask_rcnn_mvitv2_b_in21k_100ep import model

model.backbone.bottom_up = L(SwinTransformer)(
    depths=[2, 2, 18, 2],
    drop_path_rate=0.4,
    embed_dim=128,
    num_heads=[4, 8, 16, 32],
)
model.backbone.in_features = ("p0", "p1", "p2", "p3")

train = fast_training("detectron2://ImageNetPretrained/swin/swin_base_patch4_window7_224_22k.pth")
train.max_iter = 184_375
lr_multiplier = step_schedule(163_889, 177_546, max_iter=train.max_iter)
rescale_schedule(train, lr_multiplier, 1, of=2)

optimizer = model_zoo.get_config("common/optim.py").AdamW
optimizer.lr = 4e-5
optimizer.weight_decay = 0.05
optimizer.params.overrides = {"relative_position_bias_table": {"weight_decay": 0.0}}
