"""The library in four words: ``load``, ``train``, ``evaluate``, and a detector's ``predict``.

The commands of the same names take the same arguments and give the same results.

Example:
    >>> import retinue
    >>> detector = retinue.load()  # the small model of the demo, which ships with the library
    >>> detector.class_names[0]
    'disk'
"""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retinue.checkpoint.sharded import is_shards
from retinue.engine.detector import Detection, Detector

if TYPE_CHECKING:
    from retinue.config import CfgNode
    from retinue.engine.data_source import DataSource
    from retinue.engine.model_source import ModelSource

__all__ = ["Detection", "Detector", "Run", "evaluate", "load", "train"]

logger = logging.getLogger(__name__)

_RUN_FILES = ("metrics.json", "last_checkpoint", "report.html", "results.json")


@dataclass(frozen=True)
class Run:
    """What a training or evaluation left.

    Attributes:
        output: its folder.
        results: task -> metric -> value, such as ``results["bbox"]["AP"]``; empty without
            validation data.
        report: the page that shows them; None without validation data.
    """

    output: Path
    results: Mapping[str, Any]
    report: Path | None

    @cached_property
    def detector(self) -> Detector:
        """The trained model."""
        return load(self.output)

    def __str__(self) -> str:
        names = {"bbox": "box AP", "segm": "mask AP", "keypoints": "keypoint AP"}
        parts = [
            f"{names[task]} {metrics['AP']:.1f}"
            for task, metrics in self.results.items()
            if task in names
        ]
        if math.isnan(self.results.get("bbox", {}).get("AP", 0.0)):
            log = self.output / "log.txt"
            parts[-1] += f" (nothing was predicted; train longer, or see {log})"
        parts.append(f"page: {self.report}" if self.report else f"folder: {self.output}")
        return ", ".join(parts)


def load(
    name: Any = None,
    *,
    weights: str | os.PathLike[str] | None = None,
    threshold: float | None = None,
    device: str | None = None,
    opts: Sequence[Any] = (),
) -> Detector:
    """Load a trained model.

    Args:
        name: of the model zoo, such as ``"COCO-Detection/faster_rcnn_R_50_FPN_3x"``, whose weights
            are downloaded once; or the folder of a run, a checkpoint with its ``config.yaml``
            beside it, a config file, a config. Without a name, the demo's model, which knows only
            shapes. Of a run that averaged its weights (``RETINUE.EMA_DECAY``), the averages are
            taken, which it evaluated; ``?weights=model`` behind the name takes the others.
        weights: a checkpoint to use instead of the model's own.
        threshold: lowest score of predictions; by default the config's.
        device: such as ``"cpu"`` or ``"cuda:1"``; by default the best there is.
        opts: config keys and values in turn.

    Raises:
        UnknownNameError: (a ``KeyError``) If there is no such model, with the nearest names.
        InputError: If a file or folder lacks what is needed.
    """
    from retinue.checkpoint import DetectionCheckpointer
    from retinue.engine.averaging import prefer_averages
    from retinue.engine.model_source import find_model
    from retinue.modeling import build_model

    source = find_model(name, trained=weights is None)
    cfg = _merged(source, weights, device, opts)
    if threshold is not None:
        cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = threshold
        cfg.MODEL.RETINANET.SCORE_THRESH_TEST = threshold
    model = build_model(cfg).eval()
    _warn_of_random_weights(cfg, source)
    cfg.MODEL.WEIGHTS = prefer_averages(cfg.MODEL.WEIGHTS)
    DetectionCheckpointer(model).load(cfg.MODEL.WEIGHTS)
    return Detector(cfg, model, source.metadata, source.name)


def _merged(source: ModelSource, weights: Any, device: str | None, opts: Sequence[Any]) -> CfgNode:
    """Put what the caller asked for over a model's config."""
    cfg = source.cfg
    cfg.merge_from_list([os.fspath(o) if isinstance(o, os.PathLike) else o for o in opts])
    if weights is not None:
        cfg.MODEL.WEIGHTS = os.fspath(weights)
    if device is not None:
        _check_device(device)
        cfg.MODEL.DEVICE = device
    return cfg


def _check_device(name: str) -> None:
    """Raise an ``InputError`` for a device that isn't there, rather than take another."""
    from retinue.modeling.meta_arch.build import usable_device
    from retinue.utils.errors import InputError

    found = usable_device(name).type
    if not name.startswith(found):
        raise InputError(
            f"device {name!r}: PyTorch finds none here; name another, such as {found!r}, or none to"
            " have the best there is; `retinue doctor` tells what PyTorch was built for"
        )


def _warn_of_random_weights(cfg: CfgNode, source: ModelSource) -> None:
    if not cfg.MODEL.WEIGHTS:
        logger.warning(
            "%s: MODEL.WEIGHTS names no checkpoint, so the model's weights are random and so is"
            " what it finds; give it weights",
            source.name,
        )


def train(
    model: Any,
    data: Any = None,
    val: Any = None,
    *,
    output: str | os.PathLike[str] = "output/train",
    epochs: float | None = None,
    batch_size: int | None = None,
    weights: str | os.PathLike[str] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    device: str | None = None,
    num_gpus: int | None = None,
    opts: Sequence[Any] = (),
    title: str = "",
    notes: Sequence[str] = (),
    num_pictures: int = 12,
) -> Run:
    """Train a model on your own data, evaluate it and write a report.

    Classes, heads and schedule follow from the data; the data is checked before the first
    iteration.

    Args:
        model: a name of the model zoo, a config file, a config, or the folder of a run to go on
            from with other data.
        data: COCO annotations and the folder of their images, as a pair; the annotations alone, if
            the images lie beside them; the name of a registered dataset; or a list of these. By
            default the datasets that the model's config names.
        val: held-out data of the same form, to evaluate on. Without it nothing is measured.
        output: folder for checkpoints, metrics, log and report.
        epochs: passes over the data; by default 12 to 100, fewer the more data there is.
        batch_size: images a step, all GPUs together; by default 2 a GPU.
        weights: what to start from; by default what the model's config names, for zoo models
            weights trained on ImageNet. ``"published"`` starts from the zoo's trained model, ``""``
            from nothing.
        resume: go on from the last checkpoint in ``output``.
        overwrite: let a run that is in ``output`` already go.
        device: such as ``"cpu"``; by default the best there is.
        num_gpus: processes, one a GPU; by default one.
        opts: config keys and values in turn, such as ``["SOLVER.BASE_LR", 0.001]``.
        title: of the report.
        notes: sentences for the report.
        num_pictures: in the report.

    Raises:
        InputError: If data or options are wrong, before anything is trained.
    """
    from retinue.data.catalog import MetadataCatalog
    from retinue.engine import run_setup, runs
    from retinue.engine.averaging import prefer_averages
    from retinue.engine.data_source import find_data, tell_apart
    from retinue.engine.launch import launch
    from retinue.engine.model_source import find_model
    from retinue.engine.run_facts import data_facts, duration, short_name, training_facts
    from retinue.utils.errors import InputError

    is_published = weights == "published"
    source = find_model(model, trained=is_published)
    cfg = _merged(source, None if is_published else weights, device, opts)
    cfg.OUTPUT_DIR = os.fspath(output)
    if data is None and not cfg.DATASETS.TRAIN:
        raise InputError(
            f"which data? {source.name} names no dataset in DATASETS.TRAIN; give COCO annotations"
            " and the folder of their images (--train JSON IMAGES)"
        )
    train_sources = find_data(data if data is not None else cfg.DATASETS.TRAIN)
    val_sources = find_data(val) if val is not None else []
    if data is None and val is None and cfg.DATASETS.TEST:
        val_sources = find_data(cfg.DATASETS.TEST)
    val_sources = tell_apart(val_sources, train_sources)
    if not resume and not overwrite:
        _refuse_another_run(Path(output))
    is_new = not (resume and _has_run(Path(output)))
    runs.begin(cfg)
    sources = [*train_sources, *val_sources]
    for one in sources:
        one.register()
    metadata = MetadataCatalog.get(train_sources[0].name)
    cfg.DATASETS.TRAIN = tuple(s.name for s in train_sources)
    cfg.DATASETS.TEST = tuple(s.name for s in val_sources)

    reports = _check_data(cfg, train_sources, val_sources)
    said = run_setup.fit_heads(cfg, reports[0], metadata)
    said += run_setup.fit_schedule(
        cfg,
        sum(r.num_images for r in reports),
        epochs=epochs,
        batch_size=batch_size,
        num_devices=num_gpus or 1,
        is_published=source.is_published,
        planned=source.planned,
        fixed=[str(o) for o in opts[::2]],
    )
    said += [] if val_sources else ["no held-out data (val): nothing will be evaluated"]
    run_setup.fit_workers(cfg, fixed=opts[::2])
    if is_new:
        run_setup.fetch_weights(cfg.MODEL.WEIGHTS)
        cfg.MODEL.WEIGHTS = prefer_averages(cfg.MODEL.WEIGHTS)
    for sentence in run_setup.warn_of_frozen_noise(cfg):
        logger.warning("%s", sentence)
    for sentence in said:
        logger.info("%s", sentence)
    if overwrite and not resume:
        _clear(Path(output))

    start = time.perf_counter()
    results = launch(runs.run_training, num_gpus or 1, args=(cfg, sources, resume)) or {}
    seconds = time.perf_counter() - start
    if not val_sources:
        return Run(Path(output), {}, None)
    if not results:  # of other processes, or of an earlier run that had come to its end
        results = runs.run_evaluation(_with_final_weights(cfg), sources)
    facts = {"Data": data_facts(reports, val_sources), "Training": training_facts(cfg, seconds)}
    return _finish(
        load(output, device=device),
        results,
        Path(output),
        val_sources[0].name,
        title=title or f"{source.name.rpartition('/')[2]} on {short_name(train_sources[0].name)}",
        facts=facts,
        notes=notes,
        tiles=[("training", duration(seconds), f"{cfg.SOLVER.MAX_ITER:,} iterations")],
        num_pictures=num_pictures,
    )


def evaluate(
    model: Any,
    data: Any = None,
    *,
    output: str | os.PathLike[str] = "output/eval",
    weights: str | os.PathLike[str] | None = None,
    device: str | None = None,
    num_gpus: int | None = None,
    opts: Sequence[Any] = (),
    title: str = "",
    num_pictures: int = 12,
) -> Run:
    """Evaluate a model on annotated data and write a report.

    Args:
        model: as for ``load``, or what it returned.
        data: as for ``train``; by default the datasets that the model's config names.
        output: folder for predictions, log and report.
        weights: a checkpoint to use instead of the model's own.
        device: such as ``"cpu"``; by default the best there is.
        num_gpus: processes, one a GPU; by default one.
        opts: config keys and values in turn.
        title: of the report.
        num_pictures: in the report.

    Raises:
        InputError: If data or options are wrong, or the model has other classes than the data.
    """
    from retinue.engine import run_setup, runs
    from retinue.engine.averaging import prefer_averages
    from retinue.engine.data_source import find_data
    from retinue.engine.launch import launch
    from retinue.engine.model_source import find_model
    from retinue.engine.run_facts import data_facts, short_name

    is_as_loaded = isinstance(model, Detector) and weights is None and device is None and not opts
    loaded = model if is_as_loaded else None
    source = find_model(model, trained=weights is None)
    cfg = _merged(source, weights, device, opts)
    cfg.OUTPUT_DIR = os.fspath(output)
    sources = find_data(data if data is not None else cfg.DATASETS.TEST)
    runs.begin(cfg)
    for one in sources:
        one.register()
    cfg.DATASETS.TEST = tuple(s.name for s in sources)
    run_setup.fit_workers(cfg, fixed=opts[::2])
    if loaded is None:
        _warn_of_random_weights(cfg, source)
        cfg.MODEL.WEIGHTS = prefer_averages(cfg.MODEL.WEIGHTS)
    reports = _check_data(cfg, [], sources, class_names=source.class_names)
    own = loaded.model if loaded is not None else None
    results = launch(runs.run_evaluation, num_gpus or 1, args=(cfg, sources, own)) or {}
    detector = loaded
    if detector is None:
        detector = load(cfg, device=device)
        detector.metadata.set(**{k: v for k, v in source.metadata.items() if k != "name"})
    return _finish(
        detector,
        results,
        Path(output),
        sources[0].name,
        title=title or f"{source.name.rpartition('/')[2]} on {short_name(sources[0].name)}",
        facts={"Data": data_facts(reports, sources)},
        num_pictures=num_pictures,
    )


def _has_run(output: Path) -> bool:
    return (output / "last_checkpoint").is_file()


def _refuse_another_run(output: Path) -> None:
    from retinue.utils.errors import InputError

    if _has_run(output):
        raise InputError(
            f"folder {str(output)!r} holds a run already: resume it (--resume), choose another"
            " output, or let it go (--overwrite)"
        )


def _clear(output: Path) -> None:
    """Clear a run away, but for its log."""
    for path in [*(output / n for n in _RUN_FILES), *output.glob("model_*.pth")]:
        path.unlink(missing_ok=True)
    shards = [path for path in output.glob("model_*") if is_shards(str(path))]
    for path in [output / "inference", *shards]:
        shutil.rmtree(path, ignore_errors=True)


def _check_data(
    cfg: CfgNode,
    train_sources: Sequence[DataSource],
    val_sources: Sequence[DataSource],
    *,
    class_names: Sequence[str] = (),
) -> list[Any]:
    """Report on the data and stop at what training or evaluation would fail on.

    Returns:
        A report for each of the training sources, or of the others if there are none.
    """
    from retinue.data.health import compare_classes, report_dataset
    from retinue.utils.errors import InputError

    reports, classes = [], {}
    if class_names:
        classes["the model"] = list(class_names)
    for one in [*train_sources, *val_sources]:
        is_train = one in train_sources
        report = report_dataset(
            one.name,
            filter_empty=cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS and is_train,
            use_masks=None if is_train and cfg.MODEL.MASK_ON else False,
            use_keypoints=is_train and cfg.MODEL.KEYPOINT_ON,
            skip_unreadable=cfg.RETINUE.SKIP_UNREADABLE,
        )
        logger.info("%s", report)
        report.raise_if_fatal()
        classes[one.name] = report.class_names
        reports.append(report)
    problems = compare_classes(classes, fatal=list(classes))
    if problems:
        raise InputError("; ".join(p.message for p in problems))
    return reports[: len(train_sources)] or reports


def _with_final_weights(cfg: CfgNode) -> CfgNode:
    from retinue.engine.averaging import prefer_averages

    cfg = cfg.clone()
    cfg.defrost()
    final = os.path.join(cfg.OUTPUT_DIR, "model_final")
    cfg.MODEL.WEIGHTS = prefer_averages(final if is_shards(final) else f"{final}.pth")
    return cfg


def _finish(
    detector: Detector,
    results: Mapping[str, Any],
    output: Path,
    dataset: str,
    *,
    title: str,
    facts: Mapping[str, Any],
    notes: Sequence[str] = (),
    tiles: Sequence[tuple[str, str, str]] = (),
    num_pictures: int,
) -> Run:
    """Write results and report of a run."""
    from retinue.engine.run_facts import environment_facts
    from retinue.engine.run_report import write_run_report
    from retinue.utils.file_io import atomic_write
    from retinue.visualization.report import Tile

    with atomic_write(output / "results.json", "w") as f:
        json.dump(results, f, indent=1)
    report = write_run_report(
        output,
        detector,
        results,
        title=title,
        subtitle=f"{detector.cfg.MODEL.META_ARCHITECTURE}, {len(detector.class_names)} classes",
        dataset=dataset,
        tiles=[Tile(*tile) for tile in tiles],
        facts={**facts, "Environment": environment_facts()},
        notes=notes,
        num_pictures=num_pictures,
    )
    return Run(output, results, report)
