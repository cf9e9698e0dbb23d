"""Training PointRend: label maps are cropped and coloured as the paper does."""

from collections.abc import Iterable
from typing import Any

import retinue.data.transforms as T
from retinue.config import CfgNode
from retinue.data import DatasetMapper, build_detection_train_loader
from retinue.engine.runs import Trainer as _Trainer
from retinue.projects.point_rend.color_augmentation import ColorAugSSDTransform

__all__ = ["Trainer", "build_sem_seg_train_aug"]


def build_sem_seg_train_aug(cfg: CfgNode) -> list[T.Augmentation | T.Transform]:
    """Return the augmentations for label maps: resize, crop, recolour, flip, as ``cfg.INPUT`` says.

    Crops that one class fills are drawn again; colours change if ``INPUT.COLOR_AUG_SSD`` is there
    and set.
    """
    data, crop = cfg.INPUT, cfg.INPUT.CROP
    steps: list[T.Augmentation | T.Transform] = [
        T.ResizeShortestEdge(data.MIN_SIZE_TRAIN, data.MAX_SIZE_TRAIN, data.MIN_SIZE_TRAIN_SAMPLING)
    ]
    if crop.ENABLED:
        ignored = cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE
        steps.append(
            T.RandomCrop_CategoryAreaConstraint(
                crop.TYPE, crop.SIZE, crop.SINGLE_CATEGORY_MAX_AREA, ignored
            )
        )
    if data.get("COLOR_AUG_SSD", False):
        steps.append(ColorAugSSDTransform(img_format=data.FORMAT))
    return [*steps, T.RandomFlip()]


class Trainer(_Trainer):
    """Trains instance masks on the usual data, label maps on augmented crops."""

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> Iterable[Any]:
        """Build the loader that the config's architecture needs."""
        if cfg.MODEL.META_ARCHITECTURE != "SemanticSegmentor":
            return super().build_train_loader(cfg)
        mapper: Any = DatasetMapper
        build: Any = build_detection_train_loader
        augmentations = build_sem_seg_train_aug(cfg)
        return build(cfg, mapper=mapper(cfg, is_train=True, augmentations=augmentations))
