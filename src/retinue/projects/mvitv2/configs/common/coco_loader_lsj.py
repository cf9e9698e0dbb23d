"""COCO with large-scale jitter: images scaled by 0.1 to 2, crops of 1024 x 1024, padded."""

import retinue.data.transforms as T
from retinue.config import LazyCall as L

from .coco_loader import dataloader

side = 1024
dataloader.train.mapper.augmentations = [
    L(T.RandomFlip)(horizontal=True),
    L(T.ResizeScale)(min_scale=0.1, max_scale=2.0, target_height=side, target_width=side),
    L(T.FixedSizeCrop)(crop_size=(side, side)),
]
dataloader.train.mapper.recompute_boxes = True  # crops cut objects
dataloader.train.total_batch_size = 64
