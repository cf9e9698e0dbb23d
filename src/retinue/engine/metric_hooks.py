"""Hooks that choose by a metric: which checkpoint is the best, and when training is to end."""

from __future__ import annotations

import logging
import math
import operator
import os
from collections.abc import Callable, Mapping
from typing import Any

from retinue.checkpoint.checkpointer import Checkpointer
from retinue.checkpoint.reader import list_checkpoint
from retinue.engine.loop import HookBase
from retinue.utils import comm
from retinue.utils.errors import InputError

__all__ = ["BestCheckpointer", "EarlyStopping", "is_due", "is_last", "mode_of"]

logger = logging.getLogger("retinue.engine.hooks")


def is_due(trainer: Any, period: int) -> bool:
    """Say whether the current iteration completes a period."""
    return period > 0 and (trainer.iter + 1) % period == 0


def is_last(trainer: Any) -> bool:
    """Say whether the current iteration is the last one."""
    return bool(trainer.iter == trainer.max_iter - 1)


def mode_of(metric: str) -> str:
    """Guess whether more (``"max"``) or less (``"min"``) of a metric is better, by its name."""
    return "min" if "loss" in metric else "max"


def _comparison(mode: str) -> Callable[[float, float], bool]:
    comparisons = {"max": operator.gt, "min": operator.lt}
    if mode not in comparisons:
        raise InputError(f"mode must be 'max' (more is better) or 'min'; got {mode!r}")
    return comparisons[mode]


class BestCheckpointer(HookBase):
    """Saves the model when a metric is better than ever before.

    Register it behind the hook that reports the metric. The file doesn't become the last
    checkpoint, so that resuming goes on from the newest state and not from the best.

    Args:
        eval_period: of the ``EvalHook``.
        checkpointer: what saves.
        val_metric: the metric's name in the storage, e.g. ``"bbox/AP50"``.
        mode: ``"max"`` if more is better, ``"min"`` if less is.
        file_prefix: name of the file, without ``.pth``.

    Raises:
        InputError: If ``mode`` is another word.
    """

    def __init__(
        self,
        eval_period: int,
        checkpointer: Checkpointer,
        val_metric: str,
        mode: str = "max",
        file_prefix: str = "model_best",
    ) -> None:
        self._period = eval_period
        self._checkpointer = checkpointer
        self._val_metric = val_metric
        self._file_prefix = file_prefix
        self._is_better = _comparison(mode)
        self.best_metric: float | None = None
        self.best_iter: int | None = None

    def _update_best(self, val: float, iteration: int) -> bool:
        """Take over a value; say whether it is one: NaN and infinity are not."""
        if not math.isfinite(val):
            return False
        self.best_metric, self.best_iter = float(val), int(iteration)
        return True

    def before_train(self) -> None:
        """Look at the best checkpoint that is there: the one resumed from may be older."""
        if self.trainer.start_iter == 0:
            return
        for ending in (".pth", ""):
            path = os.path.join(self._checkpointer.save_dir, self._file_prefix + ending)
            try:
                saved = list_checkpoint(path).rest
                value = float(saved["metrics"][self._val_metric])
                iteration = int(saved["iteration"])
            except (OSError, KeyError, TypeError, ValueError):  # none is there, or another's
                continue
            if self.best_metric is None or self._is_better(value, self.best_metric):
                self._update_best(value, iteration)

    def _best_checking(self) -> None:
        before = self.best_metric, self.best_iter
        found = self._find_best()
        if self._checkpointer.sharded:  # metrics exist on the main process alone; all save with it
            found = comm.all_gather(found)[0]
        if found is None:
            return
        self.best_metric, self.best_iter = found
        self._save_best(*found)
        if comm.is_main_process():
            self._say_saved(*before)

    def _find_best(self) -> tuple[float, int] | None:
        """Return the metric and its iteration if it is better than ever before."""
        if not comm.is_main_process():
            return None
        latest = self.trainer.storage.latest().get(self._val_metric)
        if latest is None:
            known = [name for name in self.trainer.storage.latest() if "/" in name]
            logger.warning(
                "Given val metric %s does not seem to be computed/stored. Nothing to choose the"
                " best checkpoint by; there are: %s",
                self._val_metric,
                ", ".join(known) or "none",
            )
            return None
        value, iteration = latest
        before = self.best_metric
        is_better = before is None or self._is_better(value, before)
        if is_better and self._update_best(value, iteration):
            return float(value), int(iteration)
        logger.info(
            "Not saving as latest eval score for %s is %.5f, not better than best score %s"
            " @ iteration %s.",
            self._val_metric,
            value,
            before if before is None else f"{before:.5f}",
            self.best_iter,
        )
        return None

    def _say_saved(self, before: float | None, iteration: int | None) -> None:
        if before is None:
            logger.info("Saved first model at %.5f @ %s steps", self.best_metric, self.best_iter)
            return
        logger.info(
            "Saved best model as latest eval score for %s is %.5f, better than last best score"
            " %.5f @ iteration %s.",
            self._val_metric,
            self.best_metric,
            before,
            iteration,
        )

    def _save_best(self, value: float, iteration: int) -> None:
        last = self._checkpointer.get_checkpoint_file()
        # After training, metrics carry the number of iterations, one more than the last one's.
        done = min(iteration, self.trainer.max_iter - 1)
        self._checkpointer.save(
            self._file_prefix, iteration=done, metrics={self._val_metric: value}
        )
        if last and self._checkpointer.save_to_disk:
            self._checkpointer.tag_last_checkpoint(os.path.basename(last))

    def after_step(self) -> None:
        if is_due(self.trainer, self._period) and not is_last(self.trainer):
            self._best_checking()

    def after_train(self) -> None:
        if self.trainer.iter + 1 >= self.trainer.max_iter:
            self._best_checking()

    def state_dict(self) -> dict[str, Any]:
        return {"best_metric": self.best_metric, "best_iter": self.best_iter}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        self.best_metric = state_dict["best_metric"]
        self.best_iter = state_dict["best_iter"]


class EarlyStopping(HookBase):
    """Ends training when a metric has not become better for some evaluations.

    Register it behind the hook that reports the metric, in all processes.

    Args:
        eval_period: of the ``EvalHook``.
        val_metric: the metric's name in the storage, e.g. ``"bbox/AP"``.
        patience: evaluations without a better value to wait for.
        mode: ``"max"`` if more is better, ``"min"`` if less is.
        checkpointer: saves ``model_final.pth`` when training is ended; nothing is saved if None.

    Raises:
        InputError: If ``patience`` is not positive or ``mode`` is another word.
    """

    def __init__(
        self,
        eval_period: int,
        val_metric: str,
        patience: int,
        mode: str = "max",
        checkpointer: Checkpointer | None = None,
    ) -> None:
        if patience < 1:
            raise InputError(f"EarlyStopping: patience must be at least 1; got {patience}")
        self._period = eval_period
        self._val_metric = val_metric
        self._patience = patience
        self._checkpointer = checkpointer
        self._is_better = _comparison(mode)
        self.best_metric: float | None = None
        self.num_worse = 0

    def after_step(self) -> None:
        if not is_due(self.trainer, self._period) or is_last(self.trainer):
            return
        # Metrics exist on the main process alone; the others learn of its decision.
        is_over = comm.is_main_process() and self._has_waited_enough()
        latest = self.trainer.storage.latest().get(self._val_metric)
        is_over, latest = comm.all_gather((is_over, latest))[0]
        if is_over:
            if self._checkpointer is not None:
                metrics = {self._val_metric: latest[0]}
                self._checkpointer.save("model_final", iteration=self.trainer.iter, metrics=metrics)
            self.trainer.request_stop()

    def _has_waited_enough(self) -> bool:
        latest = self.trainer.storage.latest().get(self._val_metric)
        if latest is None:
            logger.warning("There is no metric %r to stop early by", self._val_metric)
            return False
        value = latest[0]
        if math.isfinite(value) and (
            self.best_metric is None or self._is_better(value, self.best_metric)
        ):
            self.best_metric, self.num_worse = value, 0
        else:
            self.num_worse += 1
        if self.num_worse < self._patience:
            return False
        logger.info(
            "Stopping early after iteration %d: the last %d evaluations have not been better than"
            " %s = %s",
            self.trainer.iter,
            self.num_worse,
            self._val_metric,
            self.best_metric,
        )
        return True

    def state_dict(self) -> dict[str, Any]:
        return {"best_metric": self.best_metric, "num_worse": self.num_worse}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        self.best_metric = state_dict["best_metric"]
        self.num_worse = state_dict["num_worse"]
