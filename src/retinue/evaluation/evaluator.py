"""Running a model over a dataset, and the interface of those who judge its outputs.

Reading order: DatasetEvaluator (what an evaluator does), inference_on_dataset (the loop).
"""

from __future__ import annotations

import contextlib
import datetime
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, MutableSequence, Sequence
from typing import Any

import torch
from torch import nn

from retinue.utils.comm import get_world_size, is_main_process
from retinue.utils.errors import InputError
from retinue.utils.logger import log_every_n_seconds

__all__ = ["DatasetEvaluator", "DatasetEvaluators", "inference_context", "inference_on_dataset"]

NUM_WARMUP = 5
"""Batches that are left out of the times: caches fill, workers start."""


class DatasetEvaluator:
    """Judges a model's outputs on a dataset: ``reset``, ``process`` per batch, ``evaluate``."""

    def reset(self) -> None:
        """Forget what was processed."""

    def process(self, inputs: Sequence[dict[str, Any]], outputs: Sequence[dict[str, Any]]) -> None:
        """Take in one batch.

        Args:
            inputs: what the model was given, a dict per image.
            outputs: what it returned, a dict per image.
        """

    def evaluate(self) -> Mapping[str, Any] | None:
        """Return the results, ``{"bbox": {"AP": 40.2, ...}, ...}``; on the main process only."""


class DatasetEvaluators(DatasetEvaluator):
    """Several evaluators as one."""

    def __init__(self, evaluators: Sequence[DatasetEvaluator]) -> None:
        super().__init__()
        self._evaluators = evaluators

    def reset(self) -> None:
        """Reset each."""
        for evaluator in self._evaluators:
            evaluator.reset()

    def process(self, inputs: Sequence[dict[str, Any]], outputs: Sequence[dict[str, Any]]) -> None:
        """Give the batch to each."""
        for evaluator in self._evaluators:
            evaluator.process(inputs, outputs)

    def evaluate(self) -> OrderedDict[str, Any]:
        """Return the results of all.

        Raises:
            InputError: If two of them use the same key.
        """
        merged: OrderedDict[str, Any] = OrderedDict()
        for evaluator in self._evaluators:
            results = evaluator.evaluate()
            if results is None or not is_main_process():
                continue
            if twice := sorted(merged.keys() & results.keys()):
                raise InputError(
                    f"DatasetEvaluators: expected different keys; {type(evaluator).__name__} and"
                    f" another evaluator both report {', '.join(twice)}"
                )
            merged.update(results)
        return merged


class _Stopwatch:
    """Seconds spent in the parts of each iteration, without the warm-up."""

    PARTS = ("Dataloading", "Inference", "Eval")

    def __init__(self, num_batches: int) -> None:
        self.num_batches = num_batches
        self.num_warmup = max(0, min(NUM_WARMUP, num_batches - 1))
        self.num_done = 0
        self.start_anew()

    def start_anew(self) -> None:
        self.seconds = dict.fromkeys(self.PARTS, 0.0)
        self.started = self.last = time.perf_counter()

    def lap(self, part: str) -> None:
        """Count the time since the last lap to ``part``."""
        now = time.perf_counter()
        self.seconds[part] += now - self.last
        self.last = now

    def batch_done(self) -> None:
        self.num_done += 1
        is_warm = self.num_done >= 2 * self.num_warmup + 1
        counted = self.num_done - (self.num_warmup if self.num_done > self.num_warmup else 0)
        if is_warm or self.seconds["Inference"] / counted > 5:
            self._log_progress(counted)

    def _log_progress(self, counted: int) -> None:
        total = (time.perf_counter() - self.started) / counted
        left = datetime.timedelta(seconds=int(total * (self.num_batches - self.num_done)))
        parts = " ".join(
            f"{name}: {seconds / counted:.4f} s/iter." for name, seconds in self.seconds.items()
        )
        text = f"Inference done {self.num_done}/{self.num_batches}. {parts}"
        text += f" Total: {total:.4f} s/iter. ETA={left}"
        log_every_n_seconds(logging.INFO, text, n=5, name=__name__)

    def log_total(self) -> None:
        counted = max(1, self.num_batches - self.num_warmup)
        devices = f"on {get_world_size()} devices)"
        total, compute = time.perf_counter() - self.started, self.seconds["Inference"]
        logger = logging.getLogger(__name__)
        logger.info(  # scripts search for this line and the next
            f"Total inference time: {datetime.timedelta(seconds=total)}"
            f" ({total / counted:.6f} s / iter per device, {devices}"
        )
        logger.info(
            f"Total inference pure compute time: {datetime.timedelta(seconds=int(compute))}"
            f" ({compute / counted:.6f} s / iter per device, {devices}"
        )


def inference_on_dataset(
    model: Callable[[Any], Any],
    data_loader: Any,
    evaluator: DatasetEvaluator | MutableSequence[DatasetEvaluator] | None,
    callbacks: Mapping[str, Callable[[], None]] | None = None,
) -> Mapping[str, Any]:
    """Run a model over a data loader, give each batch to the evaluator, and return its results.

    Outputs are dropped once the evaluator has seen them, so memory grows only by what it keeps.

    Args:
        model: anything that maps a batch to outputs; a module is in ``eval`` mode meanwhile.
        data_loader: batches, with a length.
        evaluator: one or several; None only measures the speed.
        callbacks: functions for ``on_start``, ``before_inference``, ``after_inference`` (both per
            batch) and ``on_end``.

    Returns:
        What ``evaluator.evaluate()`` returned; an empty dict for None.
    """
    if evaluator is None or isinstance(evaluator, MutableSequence):
        evaluator = DatasetEvaluators(evaluator or [])
    hooks = callbacks or {}

    def call_back(name: str) -> None:
        if name in hooks:
            hooks[name]()

    num_batches = len(data_loader)
    logging.getLogger(__name__).info(f"Start inference on {num_batches} batches")
    evaluator.reset()
    is_async = torch.accelerator.is_available()
    mode = inference_context(model) if isinstance(model, nn.Module) else contextlib.nullcontext()
    with mode, torch.no_grad():
        watch = _Stopwatch(num_batches)
        call_back("on_start")
        for inputs in data_loader:
            if watch.num_done == watch.num_warmup:
                watch.start_anew()
            watch.lap("Dataloading")
            call_back("before_inference")
            outputs = model(inputs)
            call_back("after_inference")
            if is_async:
                torch.accelerator.synchronize()  # else the time would fall to the evaluator
            watch.lap("Inference")
            evaluator.process(inputs, outputs)
            del inputs, outputs
            watch.lap("Eval")
            watch.batch_done()
        call_back("on_end")
    watch.log_total()
    return evaluator.evaluate() or {}


@contextlib.contextmanager
def inference_context(model: nn.Module) -> Iterator[None]:
    """Put a module into ``eval`` mode for the block, and back into the mode it was in."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
