"""Hooks: what a trainer does beside its steps.

Timing (``IterationTimer``), schedules (``LRScheduler``), checkpoints (``PeriodicCheckpointer``,
``BestCheckpointer``), evaluation (``EvalHook``, ``EarlyStopping``), writing (``PeriodicWriter``),
statistics of batch norms (``PreciseBN``), profiles (``TorchProfiler``, ``TorchMemoryStats``), and
one's own functions (``CallbackHook``).

Order matters: ``IterationTimer`` first, ``LRScheduler`` before checkpoints, ``EvalHook`` before
what uses its metrics, ``PeriodicWriter`` last. Those that profile are in ``profiler_hooks``, those
that choose by a metric in ``metric_hooks``.
"""

from __future__ import annotations

import datetime
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler as TorchLRScheduler

from retinue.checkpoint.checkpointer import PeriodicCheckpointer as _PeriodicCheckpointer
from retinue.engine.loop import HookBase
from retinue.engine.metric_hooks import BestCheckpointer, EarlyStopping, is_due, is_last
from retinue.engine.profiler_hooks import AutogradProfiler, TorchMemoryStats, TorchProfiler
from retinue.layers.precise_bn import get_bn_modules, update_bn_stats
from retinue.solver.lr_scheduler import LRMultiplier
from retinue.solver.param_scheduler import ParamScheduler
from retinue.utils import comm
from retinue.utils.errors import InputError
from retinue.utils.events import EventStorage, EventWriter
from retinue.utils.timer import Timer

__all__ = [
    "AutogradProfiler",
    "BestCheckpointer",
    "CallbackHook",
    "EarlyStopping",
    "EvalHook",
    "IterationTimer",
    "LRScheduler",
    "PeriodicCheckpointer",
    "PeriodicWriter",
    "PreciseBN",
    "TorchMemoryStats",
    "TorchProfiler",
    "save_final_metrics",
]

logger = logging.getLogger(__name__)

Callback = Callable[[Any], Any]


class CallbackHook(HookBase):
    """Calls functions, each with the trainer."""

    def __init__(
        self,
        *,
        before_train: Callback | None = None,
        after_train: Callback | None = None,
        before_step: Callback | None = None,
        after_step: Callback | None = None,
    ) -> None:
        given = {
            "before_train": before_train,
            "after_train": after_train,
            "before_step": before_step,
            "after_step": after_step,
        }
        self._functions = {when: function for when, function in given.items() if function}

    def _call(self, when: str) -> None:
        if when in self._functions:
            self._functions[when](self.trainer)

    def before_train(self) -> None:
        self._call("before_train")

    def before_step(self) -> None:
        self._call("before_step")

    def after_step(self) -> None:
        self._call("after_step")

    def after_train(self) -> None:
        self._call("after_train")
        self._functions.clear()  # they may hold on to the trainer


class IterationTimer(HookBase):
    """Measures the seconds of each iteration without hooks, reported as ``time``.

    Register it first. At the end it says how fast training was, and how long hooks took.

    Args:
        warmup_iter: iterations at the beginning that don't count.
    """

    def __init__(self, warmup_iter: int = 3) -> None:
        self._warmup_iter = warmup_iter
        self._step_timer = Timer()
        self._total_timer = Timer()
        self._start_time = time.perf_counter()

    def _restart(self) -> None:
        self._start_time = time.perf_counter()
        self._total_timer.reset()

    def before_train(self) -> None:
        self._restart()
        self._total_timer.pause()

    def before_step(self) -> None:
        self._step_timer.reset()
        self._total_timer.resume()

    def after_step(self) -> None:
        storage = self.trainer.storage
        if storage.iter + 1 - self.trainer.start_iter >= self._warmup_iter:
            storage.put_scalars(time=self._step_timer.seconds())
        else:
            self._restart()
        self._total_timer.pause()

    def after_train(self) -> None:
        total = time.perf_counter() - self._start_time
        in_steps = self._total_timer.seconds()
        num_iter = self.trainer.storage.iter + 1 - self.trainer.start_iter - self._warmup_iter
        if num_iter > 0 and in_steps > 0:  # scripts look for this line
            logger.info(
                "Overall training speed: %d iterations in %s (%.4f s / it)",
                num_iter,
                _clock(in_steps),
                in_steps / num_iter,
            )
        logger.info(
            "Total training time: %s (%s on hooks)", _clock(total), _clock(total - in_steps)
        )


def _clock(seconds: float) -> str:
    return str(datetime.timedelta(seconds=int(seconds)))


class PeriodicWriter(HookBase):
    """Lets writers write every ``period`` iterations, at the last, and after training.

    Raises:
        InputError: If one is no ``EventWriter``.
    """

    def __init__(self, writers: Sequence[EventWriter], period: int = 20) -> None:
        for writer in writers:
            if not isinstance(writer, EventWriter):
                raise InputError(f"PeriodicWriter: expected EventWriter objects; got {writer!r}")
        self._writers = writers
        self._period = period

    def after_step(self) -> None:
        if is_due(self.trainer, self._period) or is_last(self.trainer):
            for writer in self._writers:
                writer.write()

    def after_train(self) -> None:
        for writer in self._writers:
            writer.write()  # what other hooks reported after training
            writer.close()


class PeriodicCheckpointer(_PeriodicCheckpointer, HookBase):
    """``retinue.checkpoint.PeriodicCheckpointer`` as a hook; also saves at the last iteration."""

    def before_train(self) -> None:
        self.max_iter = self.trainer.max_iter

    def after_step(self) -> None:
        self.step(self.trainer.iter)


class LRScheduler(HookBase):
    """Steps a schedule after each iteration, and reports the rate that was in force as ``lr``.

    Args:
        optimizer: the trainer's if None.
        scheduler: of PyTorch, or a ``ParamScheduler``, which is a factor on the rates; the
            trainer's if None.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer | None = None,
        scheduler: TorchLRScheduler | ParamScheduler | None = None,
    ) -> None:
        self._optimizer: Any = optimizer
        self._scheduler: Any = scheduler

    @property
    def scheduler(self) -> Any:
        """The schedule in use."""
        return self._scheduler or self.trainer.scheduler

    def before_train(self) -> None:
        if self._optimizer is None:
            self._optimizer = self.trainer.optimizer
        schedule = self.scheduler
        if isinstance(schedule, ParamScheduler):  # knows progress, not the optimizer
            done = self.trainer.iter - 1
            self._scheduler = LRMultiplier(self._optimizer, schedule, self.trainer.max_iter, done)
        self._best_param_group_id = LRScheduler.get_best_param_group_id(self._optimizer)

    @staticmethod
    def get_best_param_group_id(optimizer: torch.optim.Optimizer) -> int:
        """Choose the group whose rate is shown: the one with most parameters.

        If all have one parameter, the first of those with the most frequent rate.
        """
        groups = optimizer.param_groups
        sizes = [len(group["params"]) for group in groups]
        if max(sizes) > 1:
            return sizes.index(max(sizes))
        rates = [group["lr"] for group in groups]
        return rates.index(Counter(rates).most_common(1)[0][0])

    def after_step(self) -> None:
        rate = self._optimizer.param_groups[self._best_param_group_id]["lr"]
        self.trainer.storage.put_scalar("lr", rate, smoothing_hint=False)
        try:
            self.scheduler.step()
        except IndexError:  # a schedule may have no rate for after the last iteration
            if self.trainer.iter + 1 < self.trainer.max_iter:
                raise

    def state_dict(self) -> dict[str, Any]:
        scheduler = self.scheduler
        return scheduler.state_dict() if isinstance(scheduler, TorchLRScheduler) else {}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        if isinstance(self.scheduler, TorchLRScheduler):
            logger.info("Loading scheduler from state_dict ...")
            self.scheduler.load_state_dict(dict(state_dict))


class EvalHook(HookBase):
    """Evaluates every ``eval_period`` iterations and after training, in all processes.

    Args:
        eval_period: in iterations; 0 evaluates after training only.
        eval_function: returns metrics, a dict of numbers or of such dicts, or nothing. They are
            reported under names such as ``bbox/AP``.
        eval_after_train: whether to evaluate after the last iteration. After a failure before it
            it isn't.

    Raises:
        ValueError: When a metric is no number.
        InputError: When ``eval_function`` returns something else than a dict.

    Attributes:
        metrics: of the last evaluation, by their names; after training, of the one after it.
    """

    def __init__(
        self, eval_period: int, eval_function: Callable[[], Any], eval_after_train: bool = True
    ) -> None:
        self.metrics: dict[str, float] = {}
        self._period = eval_period
        self._func: Callable[[], Any] | None = eval_function
        self._eval_after_train = eval_after_train

    def _do_eval(self) -> None:
        assert self._func is not None
        results = self._func()
        if results:
            if not isinstance(results, Mapping):
                raise InputError(f"EvalHook: expected a dict of metrics; got {results!r}")
            self.metrics = {name: _number(name, value) for name, value in _flat(results)}
            self.trainer.storage.put_scalars(**self.metrics, smoothing_hint=False)
        comm.synchronize()  # evaluation takes a different time in each process

    def after_step(self) -> None:
        if is_due(self.trainer, self._period) and not is_last(self.trainer):
            self._do_eval()

    def after_train(self) -> None:
        self.metrics = {}
        if self._eval_after_train and self.trainer.iter + 1 >= self.trainer.max_iter:
            self._do_eval()
        self._func = None  # it may hold on to the trainer


def save_final_metrics(trainer: Any) -> None:
    """Write the final checkpoint again, with the metrics of the evaluation after training.

    The first one is there while the model is evaluated, so that nothing is lost if that fails; it
    is replaced in one step, and stays if there is no room for the second. Call it in all processes,
    when the hooks are done.

    Args:
        trainer: with ``EvalHook`` and ``PeriodicCheckpointer`` among its hooks, else nothing is
            done; nor is it if training was cut off.
    """
    if trainer.iter < trainer.max_iter:
        return
    evaluations = [hook for hook in trainer._hooks if isinstance(hook, EvalHook)]
    metrics = {k: v for hook in evaluations for k, v in getattr(hook, "metrics", {}).items()}
    savers = [hook for hook in trainer._hooks if isinstance(hook, PeriodicCheckpointer)]
    if any(getattr(saver.checkpointer, "sharded", False) for saver in savers):
        metrics = comm.all_gather(metrics)[0]  # the main process has them, and all save
    if not metrics:
        return
    trainer.iter -= 1  # the last one that was done
    try:
        for saver in savers:
            logger.info("The final checkpoint gets the metrics of the evaluation")
            saver.save_final(trainer.iter, metrics=metrics)
    except OSError as error:
        logger.warning("The final checkpoint is whole, but has no metrics: %s", error)
    finally:
        trainer.iter += 1


def _flat(results: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in results.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}", value


def _number(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"EvalHook: metric {name!r} must be a number; got {value!r}") from error


class PreciseBN(HookBase):
    """Replaces the running statistics of batch norms by exact ones, before evaluations.

    Args:
        period: in iterations; 0 does so at the last iteration only.
        model: whose batch norms in training mode are meant.
        data_loader: gives batches for ``model(batch)``.
        num_iter: batches to use.
    """

    def __init__(
        self, period: int, model: nn.Module, data_loader: Iterable[Any], num_iter: int
    ) -> None:
        self._period = period
        self._model = model
        self._data_loader = data_loader
        self._num_iter = num_iter
        self._data_iter: Iterator[Any] | None = None
        self._disabled = not get_bn_modules(model)
        if self._disabled:
            logger.info(
                "PreciseBN is disabled because no batch norm of the model is in training mode."
            )

    def after_step(self) -> None:
        if is_last(self.trainer) or is_due(self.trainer, self._period):
            self.update_stats()

    def update_stats(self) -> None:
        """Compute the statistics now."""
        if self._disabled:
            return
        if self._data_iter is None:
            self._data_iter = iter(self._data_loader)
        logger.info("Running precise-BN for %d iterations...", self._num_iter)
        with EventStorage():  # what the model reports meanwhile is not training
            update_bn_stats(self._model, self._batches(self._data_iter), self._num_iter)

    def _batches(self, data_iter: Iterator[Any]) -> Iterator[Any]:
        for number in count(1):
            if number % 100 == 0:
                logger.info("Running precise-BN ... %d/%d iterations.", number, self._num_iter)
            yield next(data_iter)
