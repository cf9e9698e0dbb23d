"""What a training or evaluation run does in each of its processes.

Reading order: ``Trainer`` evaluates as a dataset's metadata says and shows a progress bar on a
terminal; ``run_training`` and ``run_evaluation`` use it; ``run_train_net`` is the same from
detectron2's command line.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from typing import Any

from torch import nn

from retinue.checkpoint import DetectionCheckpointer
from retinue.config import CfgNode, get_cfg
from retinue.data.catalog import MetadataCatalog
from retinue.engine.averaging import prefer_averages
from retinue.engine.class_names import write_class_names
from retinue.engine.data_source import DataSource
from retinue.engine.defaults import DefaultTrainer
from retinue.engine.hooks import EvalHook, PeriodicWriter
from retinue.engine.launch import launch
from retinue.engine.parallel import gathered
from retinue.engine.progress import ProgressBar, is_terminal
from retinue.engine.setup import check_output_folder, default_setup
from retinue.engine.test_time_augmentation import GeneralizedRCNNWithTTA
from retinue.utils import comm
from retinue.utils.collect_env import collect_env_info
from retinue.utils.env import seed_all_rng
from retinue.utils.errors import InputError, unknown_name
from retinue.utils.events import CommonMetricPrinter, EventWriter
from retinue.utils.file_io import atomic_write
from retinue.utils.logger import setup_logger

__all__ = ["Trainer", "begin", "run_evaluation", "run_train_net", "run_training"]

logger = logging.getLogger(__name__)
_ENVIRONMENT = "retinue.environment"

# evaluator_type of a dataset's metadata -> evaluators, by name in retinue.evaluation
_EVALUATORS = {
    "coco": ("COCOEvaluator",),
    "sem_seg": ("SemSegEvaluator",),
    "coco_panoptic_seg": ("SemSegEvaluator", "COCOEvaluator", "COCOPanopticEvaluator"),
    "cityscapes_instance": ("CityscapesInstanceEvaluator",),
    "cityscapes_sem_seg": ("CityscapesSemSegEvaluator",),
    "pascal_voc": ("PascalVOCDetectionEvaluator",),
    "lvis": ("LVISEvaluator",),
}
_WITHOUT_FOLDER = {
    "CityscapesInstanceEvaluator",
    "CityscapesSemSegEvaluator",
    "PascalVOCDetectionEvaluator",
}


class Trainer(DefaultTrainer):
    """Trains, and evaluates each dataset of ``DATASETS.TEST`` as its metadata says."""

    @classmethod
    def build_evaluator(
        cls, cfg: CfgNode, dataset_name: str, output_folder: str | None = None
    ) -> Any:
        """Make the evaluator that belongs to a dataset.

        Raises:
            UnknownNameError: (a ``KeyError``) If its ``evaluator_type`` is none that is known.
        """
        from retinue import evaluation

        folder = output_folder or os.path.join(cfg.OUTPUT_DIR, "inference")
        kind = MetadataCatalog.get(dataset_name).evaluator_type
        if kind not in _EVALUATORS:
            hint = f"set it in the metadata of {dataset_name!r}, or override build_evaluator"
            raise unknown_name("evaluator_type", kind, _EVALUATORS, hint)
        evaluators = []
        for name in _EVALUATORS[kind]:
            options: dict[str, Any] = {} if name in _WITHOUT_FOLDER else {"output_dir": folder}
            if name == "COCOEvaluator":
                options["kpt_oks_sigmas"] = cfg.TEST.KEYPOINT_OKS_SIGMAS
            evaluators.append(getattr(evaluation, name)(dataset_name, **options))
        return evaluators[0] if len(evaluators) == 1 else evaluation.DatasetEvaluators(evaluators)

    @classmethod
    def test_with_TTA(cls, cfg: CfgNode, model: nn.Module) -> dict[str, Any]:
        """Evaluate with test-time augmentation; names of results end in ``_TTA``."""
        augmented = GeneralizedRCNNWithTTA(cfg, model)
        logger.info("Evaluating with test-time augmentation")
        folder = os.path.join(cfg.OUTPUT_DIR, "inference_TTA")
        evaluators = [cls.build_evaluator(cfg, name, folder) for name in cfg.DATASETS.TEST]
        return {f"{name}_TTA": r for name, r in cls.test(cfg, augmented, evaluators).items()}

    def build_writers(self) -> list[EventWriter]:
        """As usual, without the progress line where a progress bar is shown."""
        writers = super().build_writers()
        if is_terminal():
            return [w for w in writers if not isinstance(w, CommonMetricPrinter)]
        return writers

    def build_hooks(self) -> list[Any]:
        """As usual, with ``TEST.AUG.ENABLED``, and a progress bar on a terminal."""
        hooks = super().build_hooks()
        if self.cfg.TEST.AUG.ENABLED and self.cfg.DATASETS.TEST:
            GeneralizedRCNNWithTTA(self.cfg, self.model)  # refuses some models, better now
            last = max(i for i, hook in enumerate(hooks) if isinstance(hook, EvalHook))
            hooks.insert(last + 1, EvalHook(0, self._test_with_augmentation))
        if is_terminal() and comm.is_main_process():
            on_cpu = next(self.model.parameters()).device.type == "cpu"
            hooks.append(PeriodicWriter([ProgressBar(self.max_iter)], period=1 if on_cpu else 20))
        return hooks

    def _test_with_augmentation(self) -> dict[str, Any]:
        model = self.model if self._average is None else self._average.model
        with gathered(model):
            results = self.test_with_TTA(self.cfg, model)
        self._last_eval_results = {**(self._last_eval_results or {}), **results}
        return results


class _ForPeople(logging.Filter):
    """Lets through what a person at a terminal wants to see: this package's news, and warnings."""

    def filter(self, record: logging.LogRecord) -> bool:
        own = (__name__, "retinue.engine.api", "retinue.engine.averaging")
        return record.name in own or record.levelno >= logging.WARNING


def _not_environment(record: logging.LogRecord) -> bool:
    return record.name != _ENVIRONMENT


def begin(cfg: CfgNode) -> None:
    """Prepare a run: its folder, log and seed.

    The log file gets everything. So does the console, unless it is a terminal, which is left to
    the progress bar, news and warnings.

    Raises:
        OutputFolderError: (an ``OSError``) If the folder can't be written to.
    """
    rank = comm.get_rank()
    if comm.is_main_process():
        check_output_folder(cfg.OUTPUT_DIR)
    comm.synchronize()
    to_people = is_terminal() and rank == 0
    root = setup_logger(cfg.OUTPUT_DIR, distributed_rank=rank, configure_stdout=not to_people)
    if to_people and not any(h.get_name() == "people" for h in root.handlers):
        from rich.logging import RichHandler

        console = RichHandler(show_time=False, show_level=False, show_path=False, markup=False)
        console.set_name("people")
        console.addFilter(_ForPeople())
        root.addHandler(console)
    for handler in root.handlers:
        if getattr(handler, "stream", None) is sys.stdout:  # the environment is for the file
            handler.addFilter(_not_environment)
    logging.getLogger(_ENVIRONMENT).debug("%s", collect_env_info())
    seed_all_rng(None if cfg.SEED < 0 else cfg.SEED + rank)


def run_training(cfg: CfgNode, sources: Sequence[DataSource], resume: bool) -> dict[str, Any]:
    """Train and evaluate, in one process of several; return the evaluation's results."""
    for source in sources:
        source.register()
    begin(cfg)
    trainer = Trainer(cfg)
    trainer._is_data_checked = True  # by a report on all of it
    trainer.resume_or_load(resume=resume)
    if comm.is_main_process():  # not before: what can't be resumed keeps its own
        with atomic_write(os.path.join(cfg.OUTPUT_DIR, "config.yaml"), "w") as file:
            file.write(cfg.dump())
        write_class_names(cfg.OUTPUT_DIR, MetadataCatalog.get(cfg.DATASETS.TRAIN[0]))
    trainer.train()
    return dict(getattr(trainer, "_last_eval_results", None) or {})


def run_evaluation(
    cfg: CfgNode, sources: Sequence[DataSource], model: nn.Module | None = None
) -> dict[str, Any]:
    """Evaluate ``MODEL.WEIGHTS``, or ``model``, on ``DATASETS.TEST``, in one process of several."""
    for source in sources:
        source.register()
    begin(cfg)
    if model is None:
        model = Trainer.build_model(cfg)
        DetectionCheckpointer(model, save_dir=cfg.OUTPUT_DIR).load(cfg.MODEL.WEIGHTS)
    return _evaluate(cfg, model)


def _evaluate(cfg: CfgNode, model: nn.Module) -> dict[str, Any]:
    """Evaluate on ``DATASETS.TEST``; with ``TEST.AUG.ENABLED`` also with augmentation."""
    if cfg.TEST.AUG.ENABLED:
        GeneralizedRCNNWithTTA(cfg, model)  # refuses some models, better before hours of work
    results = dict(Trainer.test(cfg, model))
    if cfg.TEST.AUG.ENABLED:
        results |= Trainer.test_with_TTA(cfg, model)
    return results


def _train_net(args: Any) -> Any:
    from retinue.evaluation import verify_results

    cfg = get_cfg()
    if args.config_file:
        cfg.merge_from_file(args.config_file)
    cfg.merge_from_list(args.opts)
    cfg.freeze()
    default_setup(cfg, args)
    if not args.eval_only:
        trainer = Trainer(cfg)
        trainer.resume_or_load(resume=args.resume)
        return trainer.train()
    if not cfg.DATASETS.TEST:
        raise InputError("--eval-only: DATASETS.TEST names no dataset to evaluate on")
    model = Trainer.build_model(cfg)
    checkpointer = DetectionCheckpointer(model, save_dir=cfg.OUTPUT_DIR)
    last = checkpointer.get_checkpoint_file() if args.resume else ""
    averaged = prefer_averages(last)
    if averaged != last:
        checkpointer.load(averaged)
    else:
        checkpointer.resume_or_load(prefer_averages(cfg.MODEL.WEIGHTS), resume=args.resume)
    results = _evaluate(cfg, model)
    if comm.is_main_process():
        verify_results(cfg, results)
    return results


def run_train_net(args: Any) -> Any:
    """Do what detectron2's ``train_net.py`` does with a parsed ``default_argument_parser``."""
    return launch(
        _train_net,
        args.num_gpus,
        num_machines=args.num_machines,
        machine_rank=args.machine_rank,
        dist_url=args.dist_url,
        args=(args,),
    )
