"""Training PointRend: label maps are cropped and coloured as the paper does."""

from collections.abc import Iterable
from typing import Any

import retinue.data.transforms as T
from retinue.config import CfgNode
from retinue.data import DatasetMapper, build_detection_train_loader
from retinue.engine.runs import Trainer as _Trainer
from retinue.projects.deeplab import training as deeplab
from retinue.projects.point_rend.color_augmentation import ColorAugSSDTransform

__all__ = ["Trainer", "build_sem_seg_train_aug"]


def build_sem_seg_train_aug(cfg: CfgNode) -> list[T.Augmentation | T.Transform]:
    """Return DeepLab's augmentations, with changed colours if ``INPUT.COLOR_AUG_SSD`` is set."""
    *steps, flip = deeplab.build_sem_seg_train_aug(cfg)
    if cfg.INPUT.COLOR_AUG_SSD:
        steps.append(ColorAugSSDTransform(img_format=cfg.INPUT.FORMAT))
    return [*steps, flip]


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
