"""From a dataset dict with annotated points to an example."""

import copy
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

import retinue.data.transforms as T
from retinue.config import CfgNode, configurable
from retinue.data import detection_utils as utils
from retinue.projects.point_sup.detection_utils import (
    annotations_to_instances,
    transform_instance_annotations,
)
from retinue.utils.errors import InputError

__all__ = ["PointSupDatasetMapper"]

logger = logging.getLogger(__name__)


class PointSupDatasetMapper:
    """Reads an image, transforms it with its boxes and points, and makes the ground truth.

    Args:
        is_train: whether there is ground truth to make.
        augmentations: applied in their order.
        image_format: as :func:`retinue.data.detection_utils.read_image` takes it.
        sample_points: how many points of each object to draw each time; all with 0.
    """

    @configurable
    def __init__(
        self,
        is_train: bool,
        *,
        augmentations: Sequence[T.Augmentation | T.Transform],
        image_format: str,
        sample_points: int = 0,
    ) -> None:
        self.is_train = is_train
        self.augmentations = T.AugmentationList(augmentations)
        self.image_format = image_format
        self.sample_points = sample_points
        logger.info("PointSup maps with %s; points drawn: %s", augmentations, sample_points)

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict[str, Any]:
        if cfg.INPUT.CROP.ENABLED and is_train:
            raise InputError(
                "PointSup: objects that a crop cuts would need masks to be cut along; set"
                " INPUT.CROP.ENABLED to False"
            )
        return {
            "is_train": is_train,
            "augmentations": utils.build_augmentation(cfg, is_train),
            "image_format": cfg.INPUT.FORMAT,
            "sample_points": cfg.INPUT.SAMPLE_POINTS,
        }

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        """Return the dict with ``image`` and, in training, ``instances``; the one given stays."""
        example = copy.deepcopy(dataset_dict)
        image = utils.read_image(example["file_name"], format=self.image_format)
        utils.check_image_size(example, image)
        augmented = T.AugInput(image)
        transforms = self.augmentations(augmented)
        example["image"] = torch.from_numpy(
            np.ascontiguousarray(augmented.image.transpose(2, 0, 1))
        )
        annotations = example.pop("annotations", None)
        if not self.is_train or annotations is None:
            return example

        size_hw = augmented.image.shape[:2]
        kept = [a for a in annotations if not a.get("iscrowd", 0)]
        for one in kept:
            if "point_coords" in one:  # annotated are pixels; a pixel's centre is half a one on
                one["point_coords"] = np.array(one["point_coords"], dtype=np.float64) + 0.5
        kept = [transform_instance_annotations(one, transforms, size_hw) for one in kept]
        instances = annotations_to_instances(kept, size_hw, self.sample_points)
        example["instances"] = utils.filter_empty_instances(instances)
        return example
