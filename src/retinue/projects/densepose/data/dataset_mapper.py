"""From a dataset dict with DensePose annotations to an example."""

import copy
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

import retinue.data.transforms as T
from retinue.config import CfgNode
from retinue.data import MetadataCatalog
from retinue.data import detection_utils as utils
from retinue.projects.densepose.structures.data_relative import DensePoseDataRelative
from retinue.projects.densepose.structures.list import DensePoseList
from retinue.projects.densepose.structures.transform_data import DensePoseTransformData
from retinue.structures import BoxMode
from retinue.utils.errors import InputError
from retinue.utils.file_io import PathManager

__all__ = ["DatasetMapper", "build_augmentation"]

logger = logging.getLogger(__name__)


def build_augmentation(cfg: CfgNode, is_train: bool) -> list[T.Augmentation]:
    """Return the usual augmentations and, in training, a rotation by ``INPUT.ROTATION_ANGLES``."""
    steps = utils.build_augmentation(cfg, is_train)
    if is_train:
        angles = list(cfg.INPUT.ROTATION_ANGLES)
        steps.append(T.RandomRotation(angles, expand=False, sample_style="choice"))
    return steps


class DatasetMapper:
    """Reads an image, transforms it with its annotations, and makes the ground truth.

    Args:
        cfg: the model's. Where it learns DensePose, the metadata of its datasets says where the
            symmetries of charts are.
        is_train: whether there is ground truth to make.

    Raises:
        InputError: If the config wants proposals from files, or names no dataset.
    """

    def __init__(self, cfg: CfgNode, is_train: bool = True) -> None:
        if cfg.MODEL.LOAD_PROPOSALS:
            raise InputError(
                "DensePose's DatasetMapper reads no proposals; set MODEL.LOAD_PROPOSALS to False"
            )
        self.is_train = is_train
        self.augmentation = build_augmentation(cfg, is_train)
        self.img_format = cfg.INPUT.FORMAT
        self.densepose_on = cfg.MODEL.DENSEPOSE_ON
        by_masks = (
            cfg.MODEL.DENSEPOSE_ON and cfg.MODEL.ROI_DENSEPOSE_HEAD.COARSE_SEGM_TRAINED_BY_MASKS
        )
        self.mask_on = cfg.MODEL.MASK_ON or by_masks
        self.keypoint_on = cfg.MODEL.KEYPOINT_ON
        self.keypoint_hflip_indices: Any = None
        if self.keypoint_on and is_train:
            self.keypoint_hflip_indices = utils.create_keypoint_hflip_indices(cfg.DATASETS.TRAIN)
        self.densepose_transform_data: DensePoseTransformData | None = None
        if self.densepose_on and is_train:
            self.densepose_transform_data = _read_symmetries(
                [*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST]
            )

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        """Return the dict with ``image`` and, in training, ``instances``; the one given stays."""
        example = copy.deepcopy(dataset_dict)
        image = utils.read_image(example["file_name"], format=self.img_format)
        utils.check_image_size(example, image)
        image, transforms = T.apply_transform_gens(self.augmentation, image)
        pixels = np.ascontiguousarray(image.transpose(2, 0, 1)).astype("float32")
        example["image"] = torch.from_numpy(pixels)
        annotations = example.pop("annotations", [])
        if self.is_train:
            kept = [row for row in annotations if not row.get("iscrowd", 0)]
            example["instances"] = self._instances(kept, transforms, image.shape[:2])
        return example

    def _instances(
        self,
        annotations: Sequence[dict[str, Any]],
        transforms: T.TransformList,
        size_hw: tuple[int, int],
    ) -> Any:
        unwanted = {"segmentation": self.mask_on, "keypoints": self.keypoint_on}
        rows = []
        for row in annotations:
            row = {key: value for key, value in row.items() if unwanted.get(key, True)}
            row = utils.transform_instance_annotations(
                row, transforms, size_hw, keypoint_hflip_indices=self.keypoint_hflip_indices
            )
            rows.append(self._transform_densepose(row, transforms))
        if self.mask_on:
            self._add_densepose_masks_as_segmentation(rows, size_hw)
        instances = utils.annotations_to_instances(rows, size_hw, mask_format="bitmask")
        datas = [row.get("densepose") for row in rows]
        if any(data is not None for data in datas):
            instances.gt_densepose = DensePoseList(datas, instances.gt_boxes.tensor, size_hw)
        return instances[instances.gt_boxes.nonempty()]

    def _transform_densepose(
        self, annotation: dict[str, Any], transforms: T.TransformList
    ) -> dict[str, Any]:
        """Put the points and parts, transformed, under ``densepose``; None if there are none."""
        if not self.densepose_on:
            return annotation
        data = None
        if DensePoseDataRelative.validate_annotation(annotation)[0]:
            data = DensePoseDataRelative(annotation)
            data.apply_transform(transforms, self.densepose_transform_data)
        DensePoseDataRelative.cleanup_annotation(annotation)
        annotation["densepose"] = data
        return annotation

    def _add_densepose_masks_as_segmentation(
        self, annotations: Sequence[dict[str, Any]], image_shape_hw: tuple[int, int]
    ) -> None:
        """Give bodies without a mask that of their parts, ``(H, W)`` bool, in place."""
        for row in annotations:
            data = row.get("densepose")
            if "segmentation" in row or not hasattr(data, "segm"):
                continue
            box = BoxMode.convert(row["bbox"], row["bbox_mode"], BoxMode.XYXY_ABS)
            x0, y0, x1, y1 = (int(number) for number in box)
            body = (data.segm > 0)[None, None].float()  # type: ignore[union-attr]
            size_hw = max(y1 - y0, 1), max(x1 - x0, 1)
            stretched = F.interpolate(body, size_hw, mode="bilinear", align_corners=False)[0, 0]
            mask = np.zeros(image_shape_hw, dtype=bool)
            target = mask[y0:y1, x0:x1]
            target[:] = stretched[: target.shape[0], : target.shape[1]].numpy() >= 0.5
            row["segmentation"] = mask


def _read_symmetries(names: Sequence[str]) -> DensePoseTransformData:
    """Read the symmetries of charts; they are the same for all datasets."""
    if not names:
        raise InputError("DensePose's DatasetMapper: DATASETS.TRAIN and DATASETS.TEST are empty")
    source = MetadataCatalog.get(names[0]).densepose_transform_src
    return DensePoseTransformData.load(PathManager.get_local_path(source))
