"""Learning-rate schedules: warm-up and the bridge from schedules to PyTorch's optimizers.

``LRMultiplier`` puts any ``ParamScheduler`` on an optimizer; it is what training uses.
``WarmupMultiStepLR`` and ``WarmupCosineLR`` are detectron2's older classes, which count iterations
themselves; code that names them keeps working.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler

from retinue.solver.param_scheduler import (
    CompositeParamScheduler,
    ConstantParamScheduler,
    LinearParamScheduler,
    ParamScheduler,
)
from retinue.utils.errors import unknown_name

__all__ = [
    "LRMultiplier",
    "LRScheduler",
    "WarmupCosineLR",
    "WarmupMultiStepLR",
    "WarmupParamScheduler",
]

WARMUP_METHODS = ("constant", "linear")


class WarmupParamScheduler(CompositeParamScheduler):
    """A schedule that starts low.

    Goyal et al., "Accurate, Large Minibatch SGD" (2017), section 2.2,
    https://arxiv.org/abs/1706.02677.

    Args:
        scheduler: the schedule that warm-up is put in front of.
        warmup_factor: the first value, as a factor on ``scheduler(0)``.
        warmup_length: the share of training that warm-up takes, in [0, 1].
        warmup_method: ``"linear"`` rises to the schedule, ``"constant"`` stays at the first value.
        rescale_interval: play all of ``scheduler`` after warm-up, rather than what is left of it.

    Raises:
        UnknownNameError: (a ``ValueError``) for another method.
    """

    def __init__(
        self,
        scheduler: ParamScheduler,
        warmup_factor: float,
        warmup_length: float,
        warmup_method: str = "linear",
        rescale_interval: bool = False,
    ) -> None:
        if warmup_method not in WARMUP_METHODS:
            raise unknown_name("warm-up method", warmup_method, WARMUP_METHODS)
        start = warmup_factor * scheduler(0.0)
        if warmup_method == "constant":
            warmup: ParamScheduler = ConstantParamScheduler(start)
        else:
            warmup = LinearParamScheduler(
                start, scheduler(0 if rescale_interval else warmup_length)
            )
        super().__init__(
            [warmup, scheduler],
            lengths=[warmup_length, 1 - warmup_length],
            interval_scaling=["rescaled", "rescaled" if rescale_interval else "fixed"],
        )


class LRMultiplier(LRScheduler):
    """Multiplies the initial learning rate of each parameter group by a schedule.

    Args:
        optimizer: whose rates are set; ratios between its groups stay as they are.
        multiplier: the schedule.
        max_iter: iterations in the whole training; ``step()`` is called once per iteration.
        last_iter: the last iteration done, or -1 before the first.

    Raises:
        ValueError: If ``multiplier`` is not a ``ParamScheduler``.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        multiplier: ParamScheduler,
        max_iter: int,
        last_iter: int = -1,
    ) -> None:
        if not isinstance(multiplier, ParamScheduler):
            raise ValueError(
                "LRMultiplier: multiplier must be a ParamScheduler (a schedule from 0 to 1);"
                f" got {multiplier!r}"
            )
        self._multiplier = multiplier
        self._max_iter = max_iter
        super().__init__(optimizer, last_epoch=last_iter)

    def state_dict(self) -> dict[str, Any]:
        """Return the initial rates and the iteration; schedules have no state of their own."""
        return {"base_lrs": self.base_lrs, "last_epoch": self.last_epoch}

    def get_lr(self) -> list[float | torch.Tensor]:
        factor = self._multiplier(self.last_epoch / self._max_iter)
        return [base_lr * factor for base_lr in self.base_lrs]


class _WarmupLR(LRScheduler):
    """Base of the older classes: a factor per iteration, times a warm-up factor."""

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        warmup_factor: float,
        warmup_iters: int,
        warmup_method: str,
        last_epoch: int,
    ) -> None:
        self.warmup_factor = warmup_factor
        self.warmup_iters = warmup_iters
        self.warmup_method = warmup_method
        super().__init__(optimizer, last_epoch)

    def _factor(self) -> float:
        raise NotImplementedError

    def get_lr(self) -> list[float | torch.Tensor]:
        warmup = _get_warmup_factor_at_iter(
            self.warmup_method, self.last_epoch, self.warmup_iters, self.warmup_factor
        )
        return [base_lr * warmup * self._factor() for base_lr in self.base_lrs]

    def _compute_values(self) -> list[float | torch.Tensor]:
        return self.get_lr()


class WarmupMultiStepLR(_WarmupLR):
    """Warm-up, then a decay by ``gamma`` at each of ``milestones`` (iterations).

    Raises:
        ValueError: If the milestones don't increase.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        milestones: Sequence[int],
        gamma: float = 0.1,
        warmup_factor: float = 0.001,
        warmup_iters: int = 1000,
        warmup_method: str = "linear",
        last_epoch: int = -1,
    ) -> None:
        if list(milestones) != sorted(milestones):
            raise ValueError(f"WarmupMultiStepLR: milestones must increase; got {milestones}")
        self.milestones = milestones
        self.gamma = gamma
        super().__init__(optimizer, warmup_factor, warmup_iters, warmup_method, last_epoch)

    def _factor(self) -> float:
        return self.gamma ** bisect_right(self.milestones, self.last_epoch)


class WarmupCosineLR(_WarmupLR):
    """Half a cosine wave down to zero at ``max_iters``, times warm-up."""

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        max_iters: int,
        warmup_factor: float = 0.001,
        warmup_iters: int = 1000,
        warmup_method: str = "linear",
        last_epoch: int = -1,
    ) -> None:
        self.max_iters = max_iters
        super().__init__(optimizer, warmup_factor, warmup_iters, warmup_method, last_epoch)

    def _factor(self) -> float:
        return 0.5 * (1.0 + math.cos(math.pi * self.last_epoch / self.max_iters))


def _get_warmup_factor_at_iter(
    method: str, iter: int, warmup_iters: int, warmup_factor: float
) -> float:
    """Return the warm-up factor of an iteration; 1 from ``warmup_iters`` on."""
    if iter >= warmup_iters:
        return 1.0
    if method not in WARMUP_METHODS:
        raise unknown_name("warm-up method", method, WARMUP_METHODS)
    if method == "constant":
        return warmup_factor
    progress = iter / warmup_iters
    return warmup_factor * (1 - progress) + progress
