"""Training DeepLab: crops that no class fills, and a rate that falls as a power of what is left."""

from collections.abc import Iterable
from typing import Any

import torch

import retinue.data.transforms as T
from retinue.config import CfgNode
from retinue.data import DatasetMapper, build_detection_train_loader
from retinue.engine.runs import Trainer as _Trainer
from retinue.projects.deeplab.build_solver import build_lr_scheduler

__all__ = ["Trainer", "build_sem_seg_train_aug"]


def build_sem_seg_train_aug(cfg: CfgNode) -> list[T.Augmentation | T.Transform]:
    """Return the augmentations for label maps: resize, crop and flip, as ``cfg.INPUT`` says.

    Crops that one class fills are drawn again.
    """
    data, crop = cfg.INPUT, cfg.INPUT.CROP
    sizes = (data.MIN_SIZE_TRAIN, data.MAX_SIZE_TRAIN, data.MIN_SIZE_TRAIN_SAMPLING)
    steps: list[T.Augmentation | T.Transform] = [T.ResizeShortestEdge(*sizes)]
    if crop.ENABLED:
        ignored = cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE
        steps.append(
            T.RandomCrop_CategoryAreaConstraint(
                crop.TYPE, crop.SIZE, crop.SINGLE_CATEGORY_MAX_AREA, ignored
            )
        )
    return [*steps, T.RandomFlip()]


class Trainer(_Trainer):
    """Trains on augmented crops, with DeepLab's schedule."""

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> Iterable[Any]:
        """Build the training loader."""
        mapper: Any = DatasetMapper
        build: Any = build_detection_train_loader
        augmentations = build_sem_seg_train_aug(cfg)
        return build(cfg, mapper=mapper(cfg, is_train=True, augmentations=augmentations))

    @classmethod
    def build_lr_scheduler(
        cls, cfg: CfgNode, optimizer: torch.optim.Optimizer
    ) -> torch.optim.lr_scheduler.LRScheduler:
        """Build the schedule that the config names."""
        return build_lr_scheduler(cfg, optimizer)
