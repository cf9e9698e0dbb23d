"""How long a run is, and what it writes about itself into its checkpoints."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

import torch

from retinue.config import CfgNode
from retinue.data.common import DatasetFromList, MapDataset, ToIterableDataset
from retinue.engine.run_checks import training_classes
from retinue.utils.errors import InputError

__all__ = [
    "RunRecord",
    "num_training_images",
    "plan_epochs",
    "scale_to_processes",
    "training_records",
]

logger = logging.getLogger("retinue.engine.defaults")


class RunRecord:
    """What a checkpoint says of the run that wrote it: classes, datasets, config, versions.

    Attributes:
        loaded: the record of the checkpoint that was loaded, if it has one.
    """

    def __init__(self, cfg: CfgNode) -> None:
        self._cfg = cfg
        self.loaded: dict[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        """Return the record; plain data."""
        import retinue

        return {
            "classes": training_classes(self._cfg),
            "datasets": list(self._cfg.DATASETS.TRAIN),
            "config": self._cfg.dump(),
            "retinue": retinue.__version__,
            "torch": str(torch.__version__),
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Keep another run's record."""
        self.loaded = dict(state_dict)


def num_training_images(loader: Any) -> int | None:
    """Return how many images a training loader of ours goes through; None for another loader."""
    dataset = _training_dataset(loader)
    return None if dataset is None else len(dataset)


def training_records(loader: Any) -> DatasetFromList | None:
    """Return the dataset dicts that a training loader of ours reads; None for another loader."""
    dataset = _training_dataset(loader)
    records = dataset._dataset if isinstance(dataset, MapDataset) else dataset
    return records if isinstance(records, DatasetFromList) else None


def _training_dataset(loader: Any) -> Any:
    while loader is not None:
        if isinstance(loader, ToIterableDataset):
            return loader.dataset
        loader = getattr(loader, "dataset", getattr(loader, "_dataset", None))
    return None


def plan_epochs(cfg: CfgNode, num_images: int | None) -> CfgNode:
    """Turn ``RETINUE.EPOCHS`` into iterations.

    ``SOLVER.MAX_ITER`` becomes what so many passes over the images take. Steps of the schedule keep
    their place in the run, and warm-up takes a tenth of it at most.

    Args:
        cfg: the config.
        num_images: in an epoch.

    Returns:
        A new config, or the same one if no epochs are asked for.

    Raises:
        ValueError: If the number of images is not known.
    """
    extras = cfg.get("RETINUE") or CfgNode()
    epochs = extras.get("EPOCHS") or 0
    if epochs <= 0:
        return cfg
    if num_images is None:
        raise ValueError(
            "RETINUE.EPOCHS needs a training loader whose number of images is known;"
            " set SOLVER.MAX_ITER instead"
        )
    was_frozen = cfg.is_frozen()
    cfg = cfg.clone()
    cfg.defrost()
    solver = cfg.SOLVER
    images_per_step = solver.IMS_PER_BATCH * (extras.get("ACCUMULATE") or 1)
    max_iter = max(1, math.ceil(epochs * num_images / images_per_step))
    steps = {round(step * max_iter / solver.MAX_ITER) for step in solver.STEPS}
    solver.STEPS = tuple(sorted(step for step in steps if 0 < step < max_iter))
    solver.WARMUP_ITERS = min(solver.WARMUP_ITERS, max_iter // 10)
    solver.MAX_ITER = max_iter
    logger.info(
        "%g epochs of %d images, %d a step, are %d iterations; the rate drops after %s",
        epochs,
        num_images,
        images_per_step,
        max_iter,
        solver.STEPS,
    )
    if was_frozen:
        cfg.freeze()
    return cfg


def scale_to_processes(cfg: CfgNode, num_workers: int) -> CfgNode:
    """Do what ``DefaultTrainer.auto_scale_workers`` says."""
    reference = cfg.SOLVER.REFERENCE_WORLD_SIZE
    if reference in (0, num_workers):
        return cfg
    if cfg.SOLVER.IMS_PER_BATCH % reference:
        raise InputError(
            f"SOLVER.REFERENCE_WORLD_SIZE {reference} must divide SOLVER.IMS_PER_BATCH"
            f" {cfg.SOLVER.IMS_PER_BATCH}"
        )
    was_frozen = cfg.is_frozen()
    cfg = cfg.clone()
    cfg.defrost()
    solver, scale = cfg.SOLVER, num_workers / reference
    solver.IMS_PER_BATCH = round(solver.IMS_PER_BATCH * scale)
    solver.BASE_LR *= scale
    for node, key in (
        (solver, "MAX_ITER"),
        (solver, "WARMUP_ITERS"),
        (solver, "CHECKPOINT_PERIOD"),
        (cfg.TEST, "EVAL_PERIOD"),
    ):
        node[key] = round(node[key] / scale)
    solver.STEPS = tuple(round(step / scale) for step in solver.STEPS)
    solver.REFERENCE_WORLD_SIZE = num_workers
    logger.info(
        "Auto-scaling the config to batch_size=%s, learning_rate=%s, max_iter=%s, warmup=%s,"
        " for %d processes.",
        solver.IMS_PER_BATCH,
        solver.BASE_LR,
        solver.MAX_ITER,
        solver.WARMUP_ITERS,
        num_workers,
    )
    if was_frozen:
        cfg.freeze()
    return cfg
