"""RetinaNet with batch norm over all devices in its head, 3x: all levels share statistics.

A norm given by its name would have statistics for each level (see ``RetinaNetHead``); a class, not.
"""

from torch import nn

from retinue import model_zoo

model = model_zoo.get_config("common/models/retinanet.py").model
model.backbone.bottom_up.freeze_at = 2
model.head.norm = nn.SyncBatchNorm

dataloader = model_zoo.get_config("common/data/coco.py").dataloader
lr_multiplier = model_zoo.get_config("common/coco_schedule.py").lr_multiplier_3x
optimizer = model_zoo.get_config("common/optim.py").SGD
optimizer.lr = 0.01
train = model_zoo.get_config("common/train.py").train
train.init_checkpoint = "detectron2://ImageNetPretrained/MSRA/R-50.pkl"
train.max_iter = 270_000
