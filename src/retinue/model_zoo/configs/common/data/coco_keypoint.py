"""COCO 2017, people and their key points."""

from retinue.data.detection_utils import create_keypoint_hflip_indices

from .coco import dataloader

dataloader.train.dataset.names = "keypoints_coco_2017_train"
dataloader.train.dataset.min_keypoints = 1
dataloader.train.mapper.use_instance_mask = False
dataloader.train.mapper.use_keypoint = True
dataloader.train.mapper.keypoint_hflip_indices = create_keypoint_hflip_indices(
    "keypoints_coco_2017_train"
)
dataloader.test.dataset.names = "keypoints_coco_2017_val"
