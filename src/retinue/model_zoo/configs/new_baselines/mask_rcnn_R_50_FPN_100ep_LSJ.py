"""Mask R-CNN from scratch with large-scale jitter: 100 epochs of COCO at 64 images a batch.

The recipe of Ghiasi et al., "Simple Copy-Paste" (2020), https://arxiv.org/abs/2012.07177.
"""

import retinue.data.transforms as T
from retinue.config import LazyCall as L
from retinue.layers.batch_norm import NaiveSyncBatchNorm
from retinue.solver import WarmupParamScheduler
from retinue.solver.param_scheduler import MultiStepParamScheduler

from ..common.data.coco import dataloader
from ..common.models.mask_rcnn_fpn import model
from ..common.optim import SGD as optimizer
from ..common.train import train

# Batch statistics everywhere, over all devices.
model.backbone.bottom_up.freeze_at = 0
model.backbone.bottom_up.stem.norm = "SyncBN"
model.backbone.bottom_up.stages.norm = "SyncBN"
model.backbone.norm = "SyncBN"

model.proposal_generator.head.conv_dims = [-1, -1]
model.roi_heads.box_head.conv_dims = [256, 256, 256, 256]
model.roi_heads.box_head.fc_dims = [1024]
# The number of regions differs from device to device: weigh each device's statistics by it.
model.roi_heads.box_head.conv_norm = lambda c: NaiveSyncBatchNorm(c, stats_mode="N")
model.roi_heads.mask_head.conv_norm = lambda c: NaiveSyncBatchNorm(c, stats_mode="N")

side = 1024
dataloader.train.mapper.augmentations = [
    L(T.ResizeScale)(min_scale=0.1, max_scale=2.0, target_height=side, target_width=side),
    L(T.FixedSizeCrop)(crop_size=(side, side)),
    L(T.RandomFlip)(horizontal=True),
]
dataloader.train.mapper.recompute_boxes = True  # crops cut objects
dataloader.train.total_batch_size = 64

train["amp"]["enabled"] = True
train["ddp"]["fp16_compression"] = True
train["max_iter"] = 184_375  # 100 epochs of 118,000 images

lr_multiplier = L(WarmupParamScheduler)(
    scheduler=L(MultiStepParamScheduler)(
        values=[1.0, 0.1, 0.01],
        milestones=[163_889, 177_546],
        num_updates=train["max_iter"],
    ),
    warmup_length=500 / train["max_iter"],
    warmup_factor=0.067,
)

optimizer.lr = 0.1
optimizer.weight_decay = 4e-5
