"""Training Panoptic-DeepLab, and evaluating its panoptic maps, label maps and instances."""

import os
from collections.abc import Iterable
from typing import Any

import torch

from retinue import evaluation
from retinue.config import CfgNode
from retinue.data import MetadataCatalog, build_detection_train_loader
from retinue.engine.runs import Trainer as _Trainer
from retinue.projects.deeplab.build_solver import build_lr_scheduler
from retinue.projects.panoptic_deeplab.dataset_mapper import PanopticDeeplabDatasetMapper
from retinue.solver.build import get_default_optimizer_params, maybe_add_gradient_clipping
from retinue.utils.errors import unknown_name

__all__ = ["Trainer"]

# A panoptic COCO dataset names stuff among its classes; instances are those of the plain one.
INSTANCE_DATASETS = {
    "coco_2017_val_panoptic": "coco_2017_val",
    "coco_2017_val_100_panoptic": "coco_2017_val_100",
}


class Trainer(_Trainer):
    """Trains on targets made of panoptic maps, with Adam."""

    @classmethod
    def build_evaluator(
        cls, cfg: CfgNode, dataset_name: str, output_folder: str | None = None
    ) -> Any:
        """Make the evaluators of a panoptic dataset.

        Raises:
            UnknownNameError: (a ``KeyError``) If the dataset is none of COCO or Cityscapes.
        """
        folder = output_folder or os.path.join(cfg.OUTPUT_DIR, "inference")
        kind = MetadataCatalog.get(dataset_name).evaluator_type
        known = ("cityscapes_panoptic_seg", "coco_panoptic_seg")
        if kind not in known:
            raise unknown_name(f"evaluator_type of {dataset_name!r}", kind, known)
        evaluators: list[Any] = [evaluation.COCOPanopticEvaluator(dataset_name, folder)]
        if kind == "cityscapes_panoptic_seg":
            evaluators.append(evaluation.CityscapesSemSegEvaluator(dataset_name))
            evaluators.append(evaluation.CityscapesInstanceEvaluator(dataset_name))
        else:
            name = INSTANCE_DATASETS.get(dataset_name, dataset_name)
            evaluators.append(evaluation.COCOEvaluator(name, output_dir=folder))
        return evaluation.DatasetEvaluators(evaluators)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> Iterable[Any]:
        """Build the training loader."""
        mapper: Any = PanopticDeeplabDatasetMapper  # configurable: takes a config, too
        build: Any = build_detection_train_loader
        return build(cfg, mapper=mapper(cfg))

    @classmethod
    def build_lr_scheduler(
        cls, cfg: CfgNode, optimizer: torch.optim.Optimizer
    ) -> torch.optim.lr_scheduler.LRScheduler:
        """Build the schedule that the config names."""
        return build_lr_scheduler(cfg, optimizer)

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: torch.nn.Module) -> torch.optim.Optimizer:
        """Build what ``SOLVER.OPTIMIZER`` names: ``"ADAM"`` or ``"SGD"``.

        Raises:
            UnknownNameError: (a ``KeyError``) If it is neither.
        """
        solver = cfg.SOLVER
        params = get_default_optimizer_params(
            model,
            weight_decay=solver.WEIGHT_DECAY,
            weight_decay_norm=solver.WEIGHT_DECAY_NORM,
        )
        if solver.OPTIMIZER == "ADAM":
            return maybe_add_gradient_clipping(cfg, torch.optim.Adam)(params, solver.BASE_LR)
        if solver.OPTIMIZER == "SGD":
            return maybe_add_gradient_clipping(cfg, torch.optim.SGD)(
                params, solver.BASE_LR, momentum=solver.MOMENTUM, nesterov=solver.NESTEROV
            )
        raise unknown_name("SOLVER.OPTIMIZER", solver.OPTIMIZER, ["ADAM", "SGD"])
