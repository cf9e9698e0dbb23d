"""What happens to one image on its way from a dataset dict to a model.

Shapes
    C channels; H, W rows and columns after the augmentations.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from retinue.config import configurable
from retinue.data import detection_utils as utils
from retinue.data import transforms as T
from retinue.data.images import ADVICE
from retinue.utils.errors import InputError

__all__ = ["DatasetMapper"]

logger = logging.getLogger(__name__)


class DatasetMapper:
    """Reads an image, augments it with all its annotations, and makes tensors.

    Args:
        is_train: make ground truth; if False, annotations are dropped.
        augmentations: applied in order.
        image_format: see ``detection_utils.read_image``.
        use_instance_mask: read masks, where annotated.
        use_keypoint: read keypoints, where annotated.
        instance_mask_format: ``"polygon"`` or ``"bitmask"``.
        keypoint_hflip_indices: see ``detection_utils.create_keypoint_hflip_indices``.
        precomputed_proposal_topk: read precomputed proposals and keep so many; none if None.
        recompute_boxes: fit boxes to the masks after augmentation, for crops cut masks off.
        skip_unreadable: return None, with a warning, for an image that is missing or damaged; the
            loader then takes another. If False, such an image is an error.

    Raises:
        InputError: (an ``AssertionError``) If boxes are to be recomputed without masks.
    """

    skip_unreadable = False  # for subclasses that set their attributes themselves

    @configurable
    def __init__(
        self,
        is_train: bool,
        *,
        augmentations: Sequence[T.Augmentation | T.Transform],
        image_format: str,
        use_instance_mask: bool = False,
        use_keypoint: bool = False,
        instance_mask_format: str = "polygon",
        keypoint_hflip_indices: np.ndarray | Sequence[int] | None = None,
        precomputed_proposal_topk: int | None = None,
        recompute_boxes: bool = False,
        skip_unreadable: bool = False,
    ) -> None:
        if recompute_boxes and not use_instance_mask:
            raise InputError("DatasetMapper: recompute_boxes needs use_instance_mask")
        self.is_train, self.skip_unreadable = is_train, skip_unreadable
        self.image_format = image_format
        self.augmentations = T.AugmentationList(augmentations)
        self.use_instance_mask, self.use_keypoint = use_instance_mask, use_keypoint
        self.instance_mask_format, self.recompute_boxes = instance_mask_format, recompute_boxes
        self.keypoint_hflip_indices = keypoint_hflip_indices
        self.proposal_topk = precomputed_proposal_topk
        mode = "training" if is_train else "inference"
        logger.info("[DatasetMapper] Augmentations used in %s: %s", mode, list(augmentations))

    @classmethod
    def from_config(cls, cfg: Any, is_train: bool = True) -> dict[str, Any]:
        augmentations: list[T.Augmentation] = utils.build_augmentation(cfg, is_train)
        crops = is_train and cfg.INPUT.CROP.ENABLED
        if crops:
            augmentations.insert(0, T.RandomCrop(cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE))
        arguments = {
            "is_train": is_train,
            "augmentations": augmentations,
            "image_format": cfg.INPUT.FORMAT,
            "use_instance_mask": cfg.MODEL.MASK_ON,
            "instance_mask_format": cfg.INPUT.MASK_FORMAT,
            "use_keypoint": cfg.MODEL.KEYPOINT_ON,
            "recompute_boxes": crops and cfg.MODEL.MASK_ON,
        }
        if cfg.RETINUE.SKIP_UNREADABLE:  # else unsaid: subclasses list detectron2's arguments
            arguments["skip_unreadable"] = True
        if cfg.MODEL.KEYPOINT_ON:
            indices = utils.create_keypoint_hflip_indices(cfg.DATASETS.TRAIN)
            arguments["keypoint_hflip_indices"] = indices
        if cfg.MODEL.LOAD_PROPOSALS:
            split = "TRAIN" if is_train else "TEST"
            topk = cfg.DATASETS[f"PRECOMPUTED_PROPOSAL_TOPK_{split}"]
            arguments["precomputed_proposal_topk"] = topk
        return arguments

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any] | None:
        """Map the dict of one image to model input.

        Args:
            dataset_dict: in the standard dataset format; stays as it is.

        Returns:
            The dict with ``image``, ``(C, H, W)`` uint8; if there is one, ``sem_seg``, ``(H, W)``
            int64; in training ``instances``, if there are annotations. Paths and sizes stay.
        """
        dataset_dict = _copy(dataset_dict)
        try:
            image = utils.read_image(dataset_dict["file_name"], format=self.image_format)
        except (FileNotFoundError, utils.UnreadableImageError) as error:
            if not self.skip_unreadable:
                raise
            logger.warning("Skipping an image: %s", str(error).removesuffix(ADVICE))
            return None
        utils.check_image_size(dataset_dict, image)
        sem_seg = None
        if "sem_seg_file_name" in dataset_dict:
            labels = utils.read_image(dataset_dict.pop("sem_seg_file_name"), "L")
            sem_seg = labels.squeeze(2)

        aug_input = T.AugInput(image, sem_seg=sem_seg)
        transforms = self.augmentations(aug_input)
        image, sem_seg = aug_input.image, aug_input.sem_seg
        image_shape = image.shape[:2]

        # Tensors, because they travel between processes by shared memory, and arrays don't.
        channels_first = np.require(image.transpose(2, 0, 1), requirements=["C", "W"])
        dataset_dict["image"] = torch.as_tensor(channels_first)
        if sem_seg is not None:
            dataset_dict["sem_seg"] = torch.as_tensor(sem_seg.astype("long"))
        topk = self.proposal_topk
        if topk is not None:
            utils.transform_proposals(dataset_dict, image_shape, transforms, proposal_topk=topk)
        if self.is_train and "annotations" in dataset_dict:
            self._transform_annotations(dataset_dict, transforms, image_shape)
        dataset_dict.pop("annotations", None)
        return dataset_dict

    def _transform_annotations(
        self,
        dataset_dict: dict[str, Any],
        transforms: T.TransformList,
        image_shape: tuple[int, int],
    ) -> None:
        """Replace ``annotations`` by ``instances``, in place. Crowds are left out."""
        annos = []
        for number, anno in enumerate(dataset_dict.pop("annotations")):
            if not self.use_instance_mask:
                anno.pop("segmentation", None)
            if not self.use_keypoint:
                anno.pop("keypoints", None)
            if anno.get("iscrowd", 0):
                continue
            with _naming(dataset_dict, number, anno):
                annos.append(
                    utils.transform_instance_annotations(
                        anno,
                        transforms,
                        image_shape,
                        keypoint_hflip_indices=self.keypoint_hflip_indices,
                    )
                )
        with _naming(dataset_dict):
            instances = utils.annotations_to_instances(
                annos, image_shape, mask_format=self.instance_mask_format
            )
        if self.recompute_boxes and instances.has("gt_masks"):
            instances.gt_boxes = instances.gt_masks.get_bounding_boxes()
        dataset_dict["instances"] = utils.filter_empty_instances(instances)


class _naming:
    """Puts the image and the annotation before the text of an error about wrong input."""

    def __init__(self, dataset_dict: dict[str, Any], number: int | None = None, anno: Any = None):
        self.file_name = dataset_dict.get("file_name")
        self.number = number
        self.anno_id = (anno or {}).get("id")

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if not isinstance(error, InputError):
            return
        which = "" if self.number is None else f", annotation number {self.number}"
        which += "" if self.anno_id is None else f" (id {self.anno_id})"
        raise InputError(f"image {self.file_name}{which}: {error}") from error


def _copy(value: Any) -> Any:
    """Copy nested dicts and lists; ``copy.deepcopy`` without its bookkeeping, for plain data."""
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    if isinstance(value, list):
        is_numbers = bool(value) and isinstance(value[0], (int, float))
        return value[:] if is_numbers else [_copy(item) for item in value]
    if isinstance(value, (int, float, str, bytes, type(None))):
        return value
    return copy.deepcopy(value)
