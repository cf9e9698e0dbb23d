"""From a dataset dict of a panoptic dataset to a training example."""

import copy
import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

import retinue.data.transforms as T
from retinue.config import CfgNode, configurable
from retinue.data import MetadataCatalog
from retinue.data import detection_utils as utils
from retinue.projects.panoptic_deeplab.target_generator import PanopticDeepLabTargetGenerator

__all__ = ["PanopticDeeplabDatasetMapper"]

logger = logging.getLogger(__name__)


class PanopticDeeplabDatasetMapper:
    """Reads an image and its panoptic map, transforms both alike, and makes the targets.

    Args:
        augmentations: applied in their order.
        image_format: as :func:`retinue.data.detection_utils.read_image` takes it.
        panoptic_target_generator: maps ``(H, W)`` ids and ``segments_info`` to a dict of targets.
    """

    @configurable
    def __init__(
        self,
        *,
        augmentations: Sequence[T.Augmentation | T.Transform],
        image_format: str,
        panoptic_target_generator: Callable[..., dict[str, Any]],
    ) -> None:
        self.augmentations = T.AugmentationList(augmentations)
        self.image_format = image_format
        self.panoptic_target_generator = panoptic_target_generator
        logger.info("Panoptic-DeepLab trains on images after %s", augmentations)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        data = cfg.INPUT
        sizes = (data.MIN_SIZE_TRAIN, data.MAX_SIZE_TRAIN, data.MIN_SIZE_TRAIN_SAMPLING)
        crop = [T.RandomCrop(data.CROP.TYPE, data.CROP.SIZE)] if data.CROP.ENABLED else []
        metadata = MetadataCatalog.get(cfg.DATASETS.TRAIN[0])
        return {
            "augmentations": [T.ResizeShortestEdge(*sizes), *crop, T.RandomFlip()],
            "image_format": data.FORMAT,
            "panoptic_target_generator": PanopticDeepLabTargetGenerator(
                ignore_label=metadata.ignore_label,
                thing_ids=list(metadata.thing_dataset_id_to_contiguous_id.values()),
                sigma=data.GAUSSIAN_SIGMA,
                ignore_stuff_in_offset=data.IGNORE_STUFF_IN_OFFSET,
                small_instance_area=data.SMALL_INSTANCE_AREA,
                small_instance_weight=data.SMALL_INSTANCE_WEIGHT,
                ignore_crowd_in_semantic=data.IGNORE_CROWD_IN_SEMANTIC,
            ),
        }

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        """Return the dict with ``image`` ``(C, H, W)`` and the targets; the one given stays."""
        example = copy.deepcopy(dataset_dict)
        image = utils.read_image(example["file_name"], format=self.image_format)
        utils.check_image_size(example, image)
        colors = utils.read_image(example.pop("pan_seg_file_name"), "RGB")

        augmented = T.AugInput(image, sem_seg=colors)
        self.augmentations(augmented)
        example["image"] = torch.from_numpy(
            np.ascontiguousarray(augmented.image.transpose(2, 0, 1))
        )
        # The ids of a panoptic PNG are written as colours, to the base of 256.
        ids = augmented.sem_seg.astype(np.int64) @ np.array([1, 256, 256**2])  # (H, W)
        return example | self.panoptic_target_generator(ids, example["segments_info"])
