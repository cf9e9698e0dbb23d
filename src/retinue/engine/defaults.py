"""``DefaultTrainer``: from a config to a trained model, with the usual hooks.

Going on exactly where a run stopped: a checkpoint has model, optimizer, schedule, loss scale, best
metrics, iteration and seed. Random numbers of iteration i come from (seed, process, i) and those of
sample k from (seed, k), so nothing else has to be kept, whatever the number of processes. Where
the stream of data goes on follows from the iteration.

Reading order: DefaultTrainer.__init__, build_hooks, train, resume_or_load; then test. The command
line and ``default_setup`` are in ``setup``, ``DefaultPredictor`` in ``predictor``.
"""

from __future__ import annotations

import logging
import os
import weakref
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from retinue.checkpoint import DetectionCheckpointer
from retinue.checkpoint.sharded import is_sharded
from retinue.config import CfgNode
from retinue.data.build import build_detection_test_loader, build_detection_train_loader
from retinue.data.resume import streams_enter_at
from retinue.engine import hooks
from retinue.engine.averaging import WeightAverage
from retinue.engine.interrupt import Interrupt
from retinue.engine.metric_hooks import mode_of
from retinue.engine.parallel import create_ddp_model, gathered, shard_model
from retinue.engine.predictor import DefaultPredictor
from retinue.engine.run_checks import (
    check_class_count,
    check_datasets,
    check_evaluators,
    check_image_files,
    check_same_classes,
    training_classes,
)
from retinue.engine.run_plan import (
    RunRecord,
    num_training_images,
    plan_epochs,
    scale_to_processes,
    training_records,
)
from retinue.engine.setup import (
    _highlight,
    _try_get_key,
    check_output_folder,
    default_argument_parser,
    default_setup,
)
from retinue.engine.train_loop import AMPTrainer, HookBase, SimpleTrainer, TrainerBase
from retinue.engine.training_state import seed_iteration
from retinue.engine.validation_loss import build_validation_loss
from retinue.engine.writers import default_writers
from retinue.layers.precise_bn import get_bn_modules
from retinue.modeling import build_model
from retinue.solver import build_lr_scheduler, build_optimizer
from retinue.utils import comm
from retinue.utils.env import seed_all_rng
from retinue.utils.errors import InputError
from retinue.utils.events import EventWriter
from retinue.utils.logger import setup_logger
from retinue.utils.served_names import served_name

if TYPE_CHECKING:
    from retinue.evaluation import DatasetEvaluator

__all__ = [
    "DefaultPredictor",
    "DefaultTrainer",
    "create_ddp_model",
    "default_argument_parser",
    "default_setup",
    "default_writers",
]

_KEPT_FOR_PROJECTS = (_highlight, _try_get_key)  # which import them from here

logger = logging.getLogger(__name__)


class DefaultTrainer(TrainerBase):
    """Trains what a config describes.

    It builds model, optimizer, loader and schedule by its ``build_*`` methods, which subclasses
    override, and adds hooks for timing, schedule, checkpoints, evaluation and writing.

    Ctrl-C ends training after the current iteration and saves. A loss that is not finite ends it
    before the weights change, and saves them as ``model_nonfinite.pth``.

    Attributes:
        cfg: the config, with numbers scaled to the number of processes if it asks for that.
        scheduler: the schedule.
        checkpointer: saves in ``cfg.OUTPUT_DIR``.
        start_iter, max_iter: the first iteration, and where training ends.

    Raises:
        InputError: If datasets are missing or misspelt, or other keys don't fit together.
        OutputFolderError: (an ``OSError``) If ``cfg.OUTPUT_DIR`` can't be written to.

    Example:
        ``trainer = DefaultTrainer(cfg); trainer.resume_or_load(); trainer.train()``
    """

    # Trainers of many projects build everything themselves and leave __init__ out.
    _extras: CfgNode = CfgNode()
    _average: WeightAverage | None = None
    _own_loader: Any = None
    _is_data_checked: bool = False
    _last_eval_results: Any = None

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__()
        if not logging.getLogger(served_name("retinue")).isEnabledFor(logging.INFO):
            setup_logger()
        check_datasets(cfg, type(self))
        check_class_count(cfg, type(self))
        if comm.is_main_process():
            check_output_folder(cfg.OUTPUT_DIR)
        cfg = DefaultTrainer.auto_scale_workers(cfg, comm.get_world_size())
        self._extras = cfg.get("RETINUE") or CfgNode()
        self._seed = cfg.SEED if cfg.SEED >= 0 else comm.shared_random_seed()
        if cfg.SEED >= 0:
            seed_all_rng(cfg.SEED + comm.get_rank())  # initial weights are part of the run

        model = self.build_model(cfg)
        self._average = self._build_average(model)
        if self._extras.get("FSDP"):
            model = shard_model(model)
        optimizer = self.build_optimizer(cfg, model)
        self._own_loader = self._build_train_loader(cfg, first_iter=0)
        cfg = plan_epochs(cfg, num_training_images(self._own_loader))
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)

        model = create_ddp_model(model, broadcast_buffers=False)
        self._trainer = self._build_inner_trainer(cfg, model, optimizer)
        self._trainer.register_hooks([_Forward(self)])
        self.checkpointer = DetectionCheckpointer(
            model,
            cfg.OUTPUT_DIR,
            class_names=training_classes(cfg),
            asynchronous=bool(self._extras.get("ASYNC_CHECKPOINTS")),
            sharded=is_sharded(model),
            trainer=weakref.proxy(self),
            run=RunRecord(cfg),
        )
        self.checkpointer.optimizer = optimizer
        if self._average is not None:
            self.checkpointer.add_checkpointable("model_ema", self._average.as_checkpointable())
        self.start_iter = 0
        self.max_iter = cfg.SOLVER.MAX_ITER
        self.cfg = cfg
        self.register_hooks(self.build_hooks())

    @cached_property
    def _interrupt(self) -> Interrupt:
        return Interrupt()

    @cached_property
    def _seed(self) -> int:
        return self.cfg.SEED if self.cfg.SEED >= 0 else comm.shared_random_seed()

    def _build_average(self, model: nn.Module) -> WeightAverage | None:
        if not self._extras.get("EMA_DECAY"):
            return None
        average = WeightAverage(model, self._extras.EMA_DECAY)
        if self._extras.get("FSDP"):
            shard_model(average.model)
        return average

    def _build_inner_trainer(
        self, cfg: CfgNode, model: nn.Module, optimizer: torch.optim.Optimizer
    ) -> SimpleTrainer:
        if self._extras.get("COMPILE"):
            inner = getattr(model, "module", model)
            getattr(inner, "backbone", inner).compile()  # in place: names stay as they are
        accumulate = self._extras.get("ACCUMULATE") or 1
        if not cfg.SOLVER.AMP.ENABLED:
            return SimpleTrainer(model, self._own_loader, optimizer, accumulate=accumulate)
        # CPUs compute in bfloat16 only.
        on_cpu = next(model.parameters()).device.type == "cpu"
        precision = torch.bfloat16 if on_cpu else torch.float16
        return AMPTrainer(
            model, self._own_loader, optimizer, precision=precision, accumulate=accumulate
        )

    def _build_train_loader(self, cfg: CfgNode, first_iter: int) -> Iterable[Any]:
        """Build the loader as it goes on after ``first_iter`` iterations."""
        cfg = cfg.clone()
        cfg.defrost()
        cfg.SEED = self._seed
        num_samples = first_iter * cfg.SOLVER.IMS_PER_BATCH * (self._extras.get("ACCUMULATE") or 1)
        with streams_enter_at(num_samples):
            return self.build_train_loader(cfg)

    def resume_or_load(self, resume: bool = True) -> None:
        """Go on from the last checkpoint in ``cfg.OUTPUT_DIR``, or load ``cfg.MODEL.WEIGHTS``.

        Args:
            resume: whether to look for a last checkpoint. Without one, or with False, training
                starts at iteration 0.

        Raises:
            CheckpointError: If the checkpoint to resume from is for another model or other classes.
        """
        is_resuming = resume and self.checkpointer.has_checkpoint()
        rest = self.checkpointer.resume_or_load(self.cfg.MODEL.WEIGHTS, resume=resume)
        saved = self.checkpointer.checkpointables.get("run") if is_resuming else None
        record = saved.loaded if saved else rest.get("run")
        check_same_classes(self.cfg, record, is_resuming=is_resuming)
        if not is_resuming:
            return
        self.start_iter = self.iter + 1  # the checkpoint has the iteration that it was saved after
        logger.info("Resuming at iteration %d", self.start_iter)
        if self._trainer.data_loader is self._own_loader is not None:
            del self._own_loader
            self._trainer.reset_data_loader(
                lambda: self._build_train_loader(self.cfg, self.start_iter)
            )
            self._own_loader = self._trainer.data_loader

    def build_hooks(self) -> list[HookBase | None]:
        """Build the hooks, in their order; the last one is the ``PeriodicWriter``."""
        cfg, extras = self.cfg, self._extras
        is_main = comm.is_main_process()
        period, metric = cfg.TEST.EVAL_PERIOD, extras.get("BEST_METRIC")
        patience = extras.get("EARLY_STOPPING_PATIENCE")

        built: list[HookBase | None] = [hooks.IterationTimer(), hooks.LRScheduler()]
        built.append(self._build_precise_bn())
        built.append(self._average)
        saves = is_main or self.checkpointer.sharded
        if saves:
            built.append(
                hooks.PeriodicCheckpointer(
                    self.checkpointer,
                    cfg.SOLVER.CHECKPOINT_PERIOD,
                    max_to_keep=extras.get("KEEP_CHECKPOINTS") or None,
                )
            )
        if extras.get("VAL_LOSS_PERIOD"):
            built.append(build_validation_loss(cfg, self.model))
        if cfg.VIS_PERIOD > 0 and saves:
            from retinue.engine.pictures import TrainingPictures

            built.append(TrainingPictures(cfg.VIS_PERIOD, cfg.INPUT.FORMAT))

        def evaluate() -> Any:
            model = self.model if self._average is None else self._average.model
            with gathered(model):
                self._last_eval_results = self.test(self.cfg, model)
            return self._last_eval_results

        built.append(hooks.EvalHook(period, evaluate))
        if metric and saves:
            mode = mode_of(metric)
            built.append(hooks.BestCheckpointer(period, self.checkpointer, metric, mode))
        if patience:
            if not metric:
                raise InputError("RETINUE.EARLY_STOPPING_PATIENCE needs RETINUE.BEST_METRIC too")
            built.append(
                hooks.EarlyStopping(period, metric, patience, mode_of(metric), self.checkpointer)
            )
        if is_main:
            built.append(hooks.PeriodicWriter(self.build_writers(), period=20))
        return built

    def _build_precise_bn(self) -> HookBase | None:
        if not (self.cfg.TEST.PRECISE_BN.ENABLED and get_bn_modules(self.model)):
            return None
        cfg = self.cfg.clone()
        cfg.defrost()
        cfg.DATALOADER.NUM_WORKERS = 0  # it is used rarely
        return hooks.PreciseBN(
            cfg.TEST.EVAL_PERIOD,
            self.model,
            self.build_train_loader(cfg),
            cfg.TEST.PRECISE_BN.NUM_ITER,
        )

    def build_writers(self) -> list[EventWriter]:
        """Build the writers; ``default_writers`` unless overridden."""
        return default_writers(self.cfg.OUTPUT_DIR, self.max_iter)

    def train(self) -> Any:  # type: ignore[override] # the range of iterations is known
        """Train from ``start_iter`` to ``max_iter``.

        Returns:
            The last evaluation's results on the main process, if there was an evaluation.

        Raises:
            InputError: If files of images are missing or empty, before the first iteration.
            ImportError: If the evaluation at the end needs a package that is not installed.
            KeyboardInterrupt: After Ctrl-C.
            NonFiniteLossError: (a ``FloatingPointError``) If the loss is not finite.
        """
        evaluates = any(isinstance(hook, hooks.EvalHook) for hook in self._hooks)
        if evaluates:
            check_evaluators(self.cfg, type(self))
        if comm.is_main_process() and not self._is_data_checked:
            self._check_image_files(evaluates)
        with self._interrupt:
            super().train(self.start_iter, self.max_iter)
        if not comm.is_main_process():
            return None
        if self.cfg.TEST.EXPECTED_RESULTS:
            from retinue.evaluation import verify_results

            if self._last_eval_results is None:
                raise InputError("TEST.EXPECTED_RESULTS: no evaluation was done to compare with")
            verify_results(self.cfg, self._last_eval_results)
        return self._last_eval_results

    def _check_image_files(self, evaluates: bool = True) -> None:
        is_own = getattr(self._trainer, "data_loader", None) is self._own_loader
        records = training_records(self._own_loader) if is_own else None
        check_image_files(self.cfg, type(self), records, evaluates=evaluates)

    def before_step(self) -> None:
        seed_iteration(self._seed, comm.get_rank(), self.iter)
        super().before_step()

    def run_step(self) -> None:
        self._trainer.iter = self.iter
        try:
            self._trainer.run_step()
        except FloatingPointError:
            path = self.checkpointer.write("model_nonfinite", iteration=self.iter - 1)
            if path:
                logger.error("The weights before the loss that is not finite are in %s", path)
            raise
        except (OSError, InputError):  # of an image or annotation: this iteration changed nothing
            is_alone = comm.is_main_process() and not self.checkpointer.sharded
            if self.iter > self.start_iter and is_alone:
                self.iter -= 1
                self._save_interrupted()
                self.iter += 1
            raise

    def after_train(self) -> None:
        super().after_train()
        hooks.save_final_metrics(self)

    def after_step(self) -> None:
        super().after_step()
        if self._interrupt.is_requested():
            if comm.is_main_process() or self.checkpointer.sharded:
                self._save_interrupted()
            raise KeyboardInterrupt

    def _save_interrupted(self) -> None:
        name = f"model_{self.iter:07d}"
        last = os.path.basename(self.checkpointer.get_checkpoint_file())
        if last.removesuffix(".pth") != name:
            self.checkpointer.save(name, iteration=self.iter)
            last = os.path.basename(self.checkpointer.get_checkpoint_file())
        logger.warning(
            "Stopped after iteration %d and saved %s. To go on: the same command with --resume,"
            " or trainer.resume_or_load(resume=True), with OUTPUT_DIR %s",
            self.iter,
            last,
            self.cfg.OUTPUT_DIR,
        )

    def state_dict(self) -> dict[str, Any]:
        inner = self._trainer.state_dict()
        return {**super().state_dict(), "_trainer": inner, "seed": self._seed}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._trainer.load_state_dict(state_dict["_trainer"])
        self._seed = state_dict.get("seed", self._seed)  # detectron2's files have none

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        """Build the model; ``retinue.modeling.build_model`` unless overridden."""
        model: nn.Module = build_model(cfg)
        logger.info("Model:\n%s", model)
        return model

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
        """Build the optimizer; ``retinue.solver.build_optimizer`` unless overridden."""
        optimizer: torch.optim.Optimizer = build_optimizer(cfg, model)
        return optimizer

    @classmethod
    def build_lr_scheduler(cls, cfg: CfgNode, optimizer: torch.optim.Optimizer) -> Any:
        """Build the schedule; ``retinue.solver.build_lr_scheduler`` unless overridden."""
        return build_lr_scheduler(cfg, optimizer)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> Iterable[Any]:
        """Build the training loader; ``build_detection_train_loader(cfg)`` unless overridden."""
        build: Any = build_detection_train_loader  # configurable: takes a config, too
        loader: Iterable[Any] = build(cfg)
        return loader

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> Iterable[Any]:
        """Build the loader of a test dataset; ``build_detection_test_loader`` unless overridden."""
        build: Any = build_detection_test_loader  # configurable: takes a config, too
        loader: Iterable[Any] = build(cfg, dataset_name)
        return loader

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> DatasetEvaluator:
        """Build the evaluator of a test dataset; for subclasses to define.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError(
            "DefaultTrainer.build_evaluator: define it in a subclass, e.g."
            " `return COCOEvaluator(dataset_name, output_dir=cfg.OUTPUT_DIR + '/inference')`,"
            " or pass evaluators to DefaultTrainer.test"
        )

    @classmethod
    def test(
        cls,
        cfg: CfgNode,
        model: nn.Module,
        evaluators: DatasetEvaluator | Sequence[DatasetEvaluator] | None = None,
    ) -> dict[str, Any]:
        """Evaluate a model on ``cfg.DATASETS.TEST``.

        Args:
            cfg: the config.
            model: with its weights.
            evaluators: one a dataset; ``build_evaluator`` makes them if None.

        Returns:
            The results by dataset, or those of the dataset if it is the only one.

        Raises:
            InputError: If the numbers of evaluators and datasets differ.
        """
        from retinue.evaluation import DatasetEvaluator, inference_on_dataset, print_csv_format

        check_datasets(cfg, cls, ["TEST"])
        if isinstance(evaluators, DatasetEvaluator):
            evaluators = [evaluators]
        if evaluators is not None and len(evaluators) != len(cfg.DATASETS.TEST):
            raise InputError(
                f"DefaultTrainer.test: {len(evaluators)} evaluators for the"
                f" {len(cfg.DATASETS.TEST)} datasets of DATASETS.TEST"
            )
        results: dict[str, Any] = {}
        for index, name in enumerate(cfg.DATASETS.TEST):
            loader = cls.build_test_loader(cfg, name)
            try:
                evaluator = evaluators[index] if evaluators else cls.build_evaluator(cfg, name)
            except NotImplementedError as error:
                logger.warning("%s is not evaluated: %s", name, error)
                results[name] = {}
                continue
            results[name] = inference_on_dataset(model, loader, evaluator)
            if comm.is_main_process():
                logger.info("Evaluation results for %s in csv format:", name)  # programs parse it
                print_csv_format(results[name])
        return next(iter(results.values())) if len(results) == 1 else results

    @staticmethod
    def auto_scale_workers(cfg: CfgNode, num_workers: int) -> CfgNode:
        """Scale a config made for ``SOLVER.REFERENCE_WORLD_SIZE`` processes to another number.

        Batch size and learning rate grow with the number of processes, everything counted in
        iterations shrinks. Goyal et al. (2017), section 2.1, https://arxiv.org/abs/1706.02677.

        Returns:
            A new config; the same one if there is nothing to scale, or the reference is 0.

        Raises:
            InputError: If the batch can't be split among the reference number of processes.
        """
        return scale_to_processes(cfg, num_workers)

    @property
    def model(self) -> nn.Module:
        """The model, maybe inside ``DistributedDataParallel``."""
        return self._trainer.model

    @model.setter
    def model(self, value: nn.Module) -> None:
        self._trainer.model = value

    @property
    def data_loader(self) -> Iterable[Any]:
        """The training loader."""
        return self._trainer.data_loader

    @data_loader.setter
    def data_loader(self, value: Iterable[Any]) -> None:
        self._trainer.data_loader = value

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The optimizer."""
        return self._trainer.optimizer

    @optimizer.setter
    def optimizer(self, value: torch.optim.Optimizer) -> None:
        self._trainer.optimizer = value


class _Forward(HookBase):
    """Tells the outer trainer's hooks that gradients are there."""

    def __init__(self, outer: TrainerBase) -> None:
        self._outer = weakref.proxy(outer)

    def after_backward(self) -> None:
        self._outer.after_backward()
