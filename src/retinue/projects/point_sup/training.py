"""Training on points: the mapper that reads them, and the dataset that has them."""

from collections.abc import Iterable
from typing import Any

from retinue.config import CfgNode
from retinue.data import build_detection_train_loader
from retinue.engine.runs import Trainer as _Trainer
from retinue.projects.point_sup.dataset_mapper import PointSupDatasetMapper
from retinue.projects.point_sup.register_point_annotations import register_all_coco_train_points
from retinue.utils.env import datasets_root

__all__ = ["Trainer"]


class Trainer(_Trainer):
    """Trains with points where ``INPUT.POINT_SUP`` is set, as usual otherwise."""

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> Iterable[Any]:
        """Build the training loader."""
        if not cfg.INPUT.POINT_SUP:
            return super().build_train_loader(cfg)
        register_all_coco_train_points(datasets_root())
        mapper: Any = PointSupDatasetMapper  # configurable: takes a config, too
        build: Any = build_detection_train_loader
        return build(cfg, mapper=mapper(cfg, is_train=True))
