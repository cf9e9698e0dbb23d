"""COCO with large-scale jitter: images scaled by 0.1 to 2, crops of 1024 x 1024."""

import retinue.data.transforms as T
from retinue import model_zoo
from retinue.config import LazyCall as L

side = 1024
dataloader = model_zoo.get_config("common/data/coco.py").dataloader
dataloader.train.mapper.augmentations = [
    L(T.RandomFlip)(horizontal=True),
    L(T.ResizeScale)(min_scale=0.1, max_scale=2.0, target_height=side, target_width=side),
    L(T.FixedSizeCrop)(crop_size=(side, side), pad=False),  # the model pads
]
dataloader.train.mapper.image_format = "RGB"
dataloader.train.mapper.recompute_boxes = True  # crops cut objects
dataloader.train.total_batch_size = 64

dataloader.test.mapper.augmentations = [
    L(T.ResizeShortestEdge)(short_edge_length=side, max_size=side)
]
