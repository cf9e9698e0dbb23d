"""What a run needs before it starts: heads, a schedule and workers that fit its data and machine.

The model and the data themselves are found by model_source.py and data_source.py.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from typing import Any

from retinue.checkpoint.reader import local_copy, split_query
from retinue.config import CfgNode
from retinue.data.catalog import Metadata
from retinue.data.health import DataReport
from retinue.utils.download import DownloadError
from retinue.utils.errors import InputError
from retinue.utils.file_io import PathManager

__all__ = [
    "fetch_weights",
    "fit_heads",
    "fit_schedule",
    "fit_workers",
    "warn_of_frozen_noise",
]

_MIN_EVAL_PERIOD = 100  # iterations; shorter runs are evaluated at their end only


def fit_heads(cfg: CfgNode, report: DataReport, metadata: Metadata) -> list[str]:
    """Set the numbers of classes and keypoints to what the data has.

    Args:
        cfg: changed in place.
        report: on the training data.
        metadata: of the training data.

    Returns:
        Sentences that say what was chosen.
    """
    num = len(report.class_names)
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = cfg.MODEL.RETINANET.NUM_CLASSES = num
    said = [f"{num} classes, from the data: {_some(report.class_names)}"]
    annotated = report.annotated
    if cfg.MODEL.MASK_ON and not any(annotated[kind] for kind in ("polygons", "rle", "bitmap")):
        cfg.MODEL.MASK_ON = False
        said.append("the data has no masks: MODEL.MASK_ON is False")
    names = metadata.get("keypoint_names")
    if cfg.MODEL.KEYPOINT_ON and names:
        cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS = len(names)
        if len(names) != 17 and len(cfg.TEST.KEYPOINT_OKS_SIGMAS) != len(names):
            cfg.TEST.KEYPOINT_OKS_SIGMAS = [0.05] * len(names)
            said.append(f"{len(names)} keypoints, scored with TEST.KEYPOINT_OKS_SIGMAS 0.05 each")
    return said


def fit_workers(cfg: CfgNode, *, fixed: Iterable[Any] = ()) -> None:
    """Read images in no more processes than there are CPU cores, unless the user set their number.

    Args:
        cfg: changed in place.
        fixed: keys that the user set.
    """
    if "DATALOADER.NUM_WORKERS" not in fixed:
        cfg.DATALOADER.NUM_WORKERS = min(cfg.DATALOADER.NUM_WORKERS, os.cpu_count() or 1)


def fetch_weights(weights: str) -> None:
    """Make sure that ``MODEL.WEIGHTS`` are on this machine, before anything is built for them.

    Raises:
        DownloadError: (an ``OSError``) If they can't be downloaded, with what can be done.
        InputError: If there is no such file.
    """
    address, _ = split_query(weights)
    if "://" not in address:
        if address and not PathManager.exists(address):
            raise InputError(f"weights {address!r}: there is no such file")
        return
    try:
        local_copy(address)
    except DownloadError as error:
        raise type(error)(
            f"{error}; or start from weights of your own (--weights FILE, or MODEL.WEIGHTS), or"
            " from none (--weights '')"
        ) from error


def warn_of_frozen_noise(cfg: CfgNode) -> list[str]:
    """Say so if layers that start from random weights would stay as they are."""
    frozen = cfg.MODEL.BACKBONE.FREEZE_AT > 0
    norm = cfg.MODEL.RESNETS.NORM == "FrozenBN"
    if cfg.MODEL.WEIGHTS or "resnet" not in cfg.MODEL.BACKBONE.NAME or not (frozen or norm):
        return []
    return [
        "MODEL.WEIGHTS is empty, but parts of the backbone are frozen at random weights: to train"
        " from scratch, set MODEL.BACKBONE.FREEZE_AT 0 MODEL.RESNETS.NORM GN MODEL.FPN.NORM GN"
    ]


def _some(names: Sequence[str], num: int = 12) -> str:
    more = f", and {len(names) - num} more" if len(names) > num else ""
    return ", ".join(names[:num]) + more


def default_epochs(num_images: int) -> int:
    """Choose how often to pass over the data: about 24,000 pictures, but 12 to 100 times."""
    return max(12, min(100, math.ceil(24_000 / max(1, num_images))))


def fit_schedule(
    cfg: CfgNode,
    num_images: int,
    *,
    epochs: float | None = None,
    batch_size: int | None = None,
    num_devices: int = 1,
    is_published: bool = False,
    planned: CfgNode | None = None,
    fixed: Iterable[str] = (),
) -> list[str]:
    """Make the schedule fit the data and the machine.

    A published schedule is for COCO on 8 devices: 2 images a device stay, and the learning rate
    follows the batch in proportion (Goyal et al., 2017, https://arxiv.org/abs/1706.02677). Other
    configs keep their batch unless ``batch_size`` says otherwise.

    Args:
        cfg: changed in place.
        num_images: of the training data.
        epochs: passes over them; by default, for a published model, ``default_epochs``.
        batch_size: images a step, all devices together.
        num_devices: that train.
        is_published: whether the config's schedule is COCO's.
        planned: the solver that learning rate, steps and warm-up are meant for; by default the
            config's own.
        fixed: keys that the user set and that stay.

    Returns:
        Sentences that say what was chosen.

    Raises:
        InputError: If epochs or batch are none.
    """
    if epochs is not None and epochs <= 0:
        raise InputError(f"epochs must be more than 0; got {epochs}")
    if batch_size is not None and batch_size < 1:
        raise InputError(f"batch size must be at least 1; got {batch_size}")
    solver, fixed, planned = cfg.SOLVER, set(fixed), (planned or cfg.SOLVER).clone()
    if "SOLVER.IMS_PER_BATCH" not in fixed:
        if batch_size is not None:
            solver.IMS_PER_BATCH = batch_size
        elif is_published:
            solver.IMS_PER_BATCH = max(1, min(planned.IMS_PER_BATCH, 2 * num_devices))
    if "SOLVER.BASE_LR" not in fixed:
        solver.BASE_LR = planned.BASE_LR * solver.IMS_PER_BATCH / planned.IMS_PER_BATCH
    if "SOLVER.MAX_ITER" not in fixed and (epochs is not None or is_published):
        passes = default_epochs(num_images) if epochs is None else epochs
        solver.MAX_ITER = max(1, math.ceil(passes * num_images / solver.IMS_PER_BATCH))
    ratio = solver.MAX_ITER / planned.MAX_ITER
    if ratio != 1:
        if "SOLVER.STEPS" not in fixed:
            steps = {int(s * ratio) for s in planned.STEPS}
            solver.STEPS = tuple(sorted(s for s in steps if 0 < s < solver.MAX_ITER))
        if "SOLVER.WARMUP_ITERS" not in fixed:
            solver.WARMUP_ITERS = min(solver.WARMUP_ITERS, solver.MAX_ITER // 10)
        if "SOLVER.CHECKPOINT_PERIOD" not in fixed:
            solver.CHECKPOINT_PERIOD = max(1, min(solver.CHECKPOINT_PERIOD, solver.MAX_ITER // 5))
        if "TEST.EVAL_PERIOD" not in fixed:
            fifth = solver.MAX_ITER // 5
            cfg.TEST.EVAL_PERIOD = fifth if fifth >= _MIN_EVAL_PERIOD else 0
    passes = solver.MAX_ITER * solver.IMS_PER_BATCH / max(1, num_images)
    return [
        f"{solver.MAX_ITER:,} iterations of {solver.IMS_PER_BATCH} images ({passes:.3g} passes"
        f" over the data), learning rate {solver.BASE_LR:.4g}"
    ]
