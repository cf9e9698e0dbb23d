"""Checks before iteration 0: datasets, image files, evaluators, classes of data and model.

They are quick: annotations are looked at only where the metadata does not settle a question.
``retinue.data.health`` looks at everything.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from retinue.checkpoint.checkpointer import CheckpointError
from retinue.data.catalog import DatasetCatalog, MetadataCatalog
from retinue.data.health import compare_classes, report_files
from retinue.utils.errors import InputError, unknown_name

if TYPE_CHECKING:
    from retinue.config import CfgNode
    from retinue.data.common import DatasetFromList

    Records = Sequence[dict[str, Any]] | DatasetFromList

__all__ = [
    "check_class_count",
    "check_datasets",
    "check_evaluators",
    "check_image_files",
    "check_same_classes",
    "training_classes",
]

logger = logging.getLogger(__name__)

MAX_CLASSES_NAMED = 10
MAX_FILES = 100_000

# The key that holds the number of classes, by meta-architecture.
NUM_CLASSES_KEYS = {
    "GeneralizedRCNN": "ROI_HEADS",
    "PanopticFPN": "ROI_HEADS",
    "RetinaNet": "RETINANET",
}


def check_datasets(
    cfg: CfgNode, trainer: type | None = None, keys: Sequence[str] = ("TRAIN", "TEST")
) -> None:
    """Check that ``cfg.DATASETS.TRAIN`` and ``TEST`` are tuples of registered names.

    Args:
        cfg: the config.
        trainer: a trainer class; names are not looked up for loaders that it builds itself.
        keys: which to look at.

    Raises:
        InputError: If one is a string, as ``("name")`` is.
        UnknownNameError: (a ``KeyError``) If a name is not registered.
    """
    builders = {"TRAIN": "build_train_loader", "TEST": "build_test_loader"}
    for key in keys:
        names, builder = cfg.DATASETS[key], builders[key]
        if isinstance(names, str):
            raise InputError(
                f"DATASETS.{key} must be a tuple of names; got the string {names!r}: a tuple of one"
                f" name has a comma, ({names!r},)"
            )
        if trainer is not None and not _is_default(trainer, builder):
            continue
        for name in names:
            if name not in DatasetCatalog:
                hint = "register_coco_instances(name, {}, annotations, images) registers your own"
                known = DatasetCatalog.list()
                raise unknown_name(f"dataset in DATASETS.{key}", name, known, hint, max_listed=8)


def _is_default(trainer: type, builder: str) -> bool:
    return getattr(getattr(trainer, builder, None), "__module__", "").startswith("retinue.engine.")


def check_image_files(
    cfg: CfgNode,
    trainer: Any,
    train_records: Records | None,
    *,
    evaluates: bool,
) -> None:
    """Check that image files are there, before hours of training end at one that is not.

    Whether files exist and have bytes is all that is looked at, and only for loaders and
    evaluation that are the usual ones: others may read something else. Data of more than 100,000
    images is left out.

    Args:
        cfg: the config.
        trainer: a trainer class.
        train_records: the dataset dicts that it trains on, if they are known.
        evaluates: whether it evaluates on ``DATASETS.TEST``; without an evaluator it can't.

    Raises:
        InputError: With how many files are missing or empty, and the first of them.
    """
    if train_records is not None and _is_default(trainer, "build_train_loader"):
        keys = ("file_name", "sem_seg_file_name")
        _check_files(cfg, ", ".join(cfg.DATASETS.TRAIN), train_records, keys)
    build = getattr(trainer.build_evaluator, "__qualname__", "")
    has_evaluator = build != "DefaultTrainer.build_evaluator"
    is_usual = _is_default(trainer, "build_test_loader") and _is_default(trainer, "test")
    if evaluates and has_evaluator and is_usual:
        for name in cfg.DATASETS.TEST:
            _check_files(cfg, name, DatasetCatalog.get(name), ("file_name",))


def check_evaluators(cfg: CfgNode, trainer: Any) -> None:
    """Check that evaluators find what they need for an evaluation at the end of training.

    Only those of Cityscapes need something that nothing before them needs: its scripts, and the
    files with the truth.

    Args:
        cfg: the config.
        trainer: a trainer class.

    Raises:
        ImportError: If a package is not installed, with the extra that brings it.
        InputError: If annotations are missing.
    """
    from retinue.evaluation.cityscapes_evaluation import CityscapesEvaluator

    for name in cfg.DATASETS.TEST:
        if name not in MetadataCatalog:
            continue
        if "cityscapes" not in str(MetadataCatalog.get(name).get("evaluator_type", "")):
            continue
        try:
            evaluator = trainer.build_evaluator(cfg, name)
        except NotImplementedError:
            continue
        for one in getattr(evaluator, "_evaluators", [evaluator]):
            if isinstance(one, CityscapesEvaluator):
                one.check()


def _check_files(cfg: CfgNode, name: str, records: Records, keys: Sequence[str]) -> None:
    if len(records) > MAX_FILES:
        logger.info("Dataset %s: its %d files are not looked for", name, len(records))
        return
    skips = bool((cfg.get("RETINUE") or {}).get("SKIP_UNREADABLE"))
    report = report_files(
        map(records.__getitem__, range(len(records))), name, keys=keys, skip_unreadable=skips
    )
    for problem in report.warnings:
        logger.warning("Dataset %s: %s", name, problem.message)
    report.raise_if_fatal()


def check_class_count(cfg: CfgNode, trainer: type) -> None:
    """Check that the model has a class for every annotation, and that datasets agree on classes.

    Nothing is checked for loaders that ``trainer`` builds itself, which may change classes.

    Raises:
        InputError: If an annotation's class is beyond the model's; the first one is named.
    """
    node = NUM_CLASSES_KEYS.get(cfg.MODEL.META_ARCHITECTURE)
    if node is None or not _is_default(trainer, "build_train_loader"):
        return
    num_classes = cfg.MODEL[node].NUM_CLASSES
    for name in cfg.DATASETS.TRAIN:
        records = None
        if _class_names(name) is None:
            records = DatasetCatalog.get(name)  # some datasets name their classes when loaded
        names = _class_names(name)
        if names is None or len(names) > num_classes:
            records = DatasetCatalog.get(name) if records is None else records
            _check_annotations(name, records, num_classes, f"MODEL.{node}.NUM_CLASSES")
        elif len(names) < num_classes:
            logger.warning(
                "MODEL.%s.NUM_CLASSES is %d, but %s has %d classes: the others learn nothing",
                node,
                num_classes,
                name,
                len(names),
            )
    lists = {name: _class_names(name) for name in _all_names(cfg)}
    for problem in compare_classes(lists):
        logger.warning("%s", problem)


def _all_names(cfg: CfgNode) -> list[str]:
    return [name for name in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST) if name in DatasetCatalog]


def _class_names(name: str) -> list[str] | None:
    names = MetadataCatalog.get(name).get("thing_classes", None)
    return None if names is None else list(names)


def _check_annotations(
    name: str, records: Sequence[Mapping[str, Any]], num_classes: int, key: str
) -> None:
    names = _class_names(name) or []
    for record in records:
        for number, annotation in enumerate(record.get("annotations", ())):
            label = annotation.get("category_id", 0)
            if label < num_classes:
                continue
            called = f" ({names[label]!r})" if label < len(names) else ""
            has = f"{len(names)} classes" if names else "no list of classes"
            raise InputError(
                f"dataset {name!r}: image {record.get('file_name')}, annotation number {number}:"
                f" its class is {label}{called}, but {key} is {num_classes}, which allows 0 to"
                f" {num_classes - 1}; the dataset has {has}; set {key} to their number"
            )


def training_classes(cfg: CfgNode) -> list[str]:
    """Return the class names of the first training dataset; empty if they are not known."""
    names = cfg.DATASETS.TRAIN
    if not names or isinstance(names, str):
        return []
    return _class_names(names[0]) or []


def check_same_classes(
    cfg: CfgNode, record: Mapping[str, Any] | None, *, is_resuming: bool
) -> None:
    """Compare the classes that a checkpoint was trained on with those of the training data.

    Args:
        cfg: the config.
        record: what the run that wrote the checkpoint said of itself, if it did.
        is_resuming: whether training goes on, rather than starts from the weights.

    Raises:
        CheckpointError: If they differ and training would go on. Starting from it only warns.
    """
    before, now = list((record or {}).get("classes") or []), training_classes(cfg)
    if not before or not now or before == now:
        return
    text = (
        f"the checkpoint was trained on {len(before)} classes ({_some(before)}), the training data"
        f" has {len(now)} ({_some(now)})"
    )
    if is_resuming:
        raise CheckpointError(
            f"cannot resume: {text}; resume with the data it was trained on, or start from its"
            " weights in another OUTPUT_DIR"
        )
    logger.warning(
        "Classes differ: %s; outputs that the lines above don't say were mapped by the names of"
        " classes are kept where their shape fits, though they mean other classes",
        text,
    )


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:MAX_CLASSES_NAMED])
    return f"{shown}, ..." if len(names) > MAX_CLASSES_NAMED else shown
