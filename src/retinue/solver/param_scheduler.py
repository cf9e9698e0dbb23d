"""Schedules: functions from training progress to a number, such as a factor on the learning rate.

Units
    ``where`` is progress, 0 at the first iteration and 1 after the last. A schedule knows no
    iteration numbers, except that the step schedules are told how many there are, to place steps.

The names and formulas are those of fvcore's ``param_scheduler``. Reading order: ``ParamScheduler``
is the interface, the next five are formulas, three have steps, and ``CompositeParamScheduler``
plays several one after the other.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate, pairwise

__all__ = [
    "CompositeParamScheduler",
    "ConstantParamScheduler",
    "CosineParamScheduler",
    "ExponentialParamScheduler",
    "LinearParamScheduler",
    "MultiStepParamScheduler",
    "ParamScheduler",
    "PolynomialDecayParamScheduler",
    "StepParamScheduler",
    "StepWithFixedGammaParamScheduler",
]


class ParamScheduler:
    """The interface: call it with the progress, get the value. Schedules keep no state."""

    # Added to `where` before it is compared with a step, which absorbs the rounding of i / n.
    WHERE_EPSILON = 1e-6

    def __call__(self, where: float) -> float:
        raise NotImplementedError(f"{type(self).__name__} must define __call__(where)")


class ConstantParamScheduler(ParamScheduler):
    """Always ``value``.

    Raises:
        RuntimeError: When called with a progress of 1 or more.
    """

    def __init__(self, value: float) -> None:
        self._value = value

    def __call__(self, where: float) -> float:
        if where >= 1.0:
            raise RuntimeError(f"ConstantParamScheduler: where must be in [0, 1); got {where}")
        return self._value


class CosineParamScheduler(ParamScheduler):
    """Half a cosine wave from ``start_value`` to ``end_value``.

    Loshchilov and Hutter, "SGDR" (2017), eq. 5 without restarts, https://arxiv.org/abs/1608.03983.
    """

    def __init__(self, start_value: float, end_value: float) -> None:
        self._start_value = start_value
        self._end_value = end_value

    def __call__(self, where: float) -> float:
        half_range = 0.5 * (self._start_value - self._end_value)
        return self._end_value + half_range * (1 + math.cos(math.pi * where))


class ExponentialParamScheduler(ParamScheduler):
    """``start_value * decay ** where``."""

    def __init__(self, start_value: float, decay: float) -> None:
        self._start_value = start_value
        self._decay = decay

    def __call__(self, where: float) -> float:
        return float(self._start_value * self._decay**where)


class LinearParamScheduler(ParamScheduler):
    """A straight line from ``start_value`` to ``end_value``."""

    def __init__(self, start_value: float, end_value: float) -> None:
        self._start_value = start_value
        self._end_value = end_value

    def __call__(self, where: float) -> float:
        return self._end_value * where + self._start_value * (1 - where)


class PolynomialDecayParamScheduler(ParamScheduler):
    """``base_value * (1 - where) ** power``, which ends at zero."""

    def __init__(self, base_value: float, power: float) -> None:
        self._base_value = base_value
        self._power = power

    def __call__(self, where: float) -> float:
        return float(self._base_value * (1 - where) ** self._power)


class MultiStepParamScheduler(ParamScheduler):
    """One value between any two milestones.

    Args:
        values: the value of each stretch, first to last.
        num_updates: where the last stretch ends; the last milestone if None.
        milestones: where each stretch but the last ends, in the unit of ``num_updates``; stretches
            of equal length if None.

    Raises:
        ValueError: If the numbers of values and milestones don't fit together, or milestones don't
            increase up to ``num_updates``.

    Example:
        >>> schedule = MultiStepParamScheduler([1, 0.1], milestones=[60, 90])
        >>> schedule(59 / 90), schedule(60 / 90)
        (1, 0.1)
    """

    def __init__(
        self,
        values: Sequence[float],
        num_updates: int | None = None,
        milestones: Sequence[int] | None = None,
    ) -> None:
        if milestones is None:
            if num_updates is None:
                raise ValueError("MultiStepParamScheduler: give num_updates, milestones or both")
            stretch = math.ceil(num_updates / max(len(values), 1))
            milestones = range(stretch, stretch * len(values), stretch)
        else:
            want = len(values) - (num_updates is not None)
            if not isinstance(milestones, Sequence) or len(milestones) != want:
                raise ValueError(
                    f"MultiStepParamScheduler: {len(values)} values need {want} milestones;"
                    f" got {milestones!r}"
                )
            if num_updates is None:
                *milestones, num_updates = milestones
        if num_updates < len(values):
            raise ValueError(
                f"MultiStepParamScheduler: {num_updates} updates are too few"
                f" for {len(values)} values"
            )
        bounds = [0, *milestones, num_updates]
        if any(a >= b for a, b in pairwise(bounds)):
            raise ValueError(
                f"MultiStepParamScheduler: milestones must increase from above 0 to below the"
                f" {num_updates} updates; got {list(milestones)}"
            )
        self._values = values
        self._milestones = list(milestones)
        self._num_updates = num_updates

    def __call__(self, where: float) -> float:
        if where > 1.0:
            raise RuntimeError(f"MultiStepParamScheduler: where must be in [0, 1]; got {where}")
        update = int((where + self.WHERE_EPSILON) * self._num_updates)
        return self._values[bisect_right(self._milestones, update)]


class StepParamScheduler(ParamScheduler):
    """``values`` one after the other, each for the same time.

    Raises:
        ValueError: If there is no value or no update.
        IndexError: When asked for the value at the very end (progress 1), where none is left.
    """

    def __init__(self, num_updates: float, values: Sequence[float]) -> None:
        if num_updates <= 0:
            raise ValueError(f"StepParamScheduler: num_updates must be above 0; got {num_updates}")
        if not isinstance(values, Sequence) or not values:
            raise ValueError(f"StepParamScheduler: values must list numbers; got {values!r}")
        self._values = values

    def __call__(self, where: float) -> float:
        step = int((where + self.WHERE_EPSILON) * len(self._values))
        if step >= len(self._values):
            raise IndexError(
                f"{type(self).__name__}: progress must be below 1; got {where}. The training that"
                " it was made for has ended"
            )
        return self._values[step]


class StepWithFixedGammaParamScheduler(ParamScheduler):
    """``base_value``, multiplied by ``gamma`` after each of ``num_decays + 1`` equal stretches.

    Raises:
        ValueError: If an argument is not positive, or a count is not an integer.
    """

    def __init__(self, base_value: float, num_decays: int, gamma: float, num_updates: int) -> None:
        for name, value in (("base_value", base_value), ("gamma", gamma)):
            if not isinstance(value, int | float) or value <= 0:
                raise ValueError(f"{type(self).__name__}: {name} must be above 0; got {value!r}")
        for name, value in (("num_decays", num_decays), ("num_updates", num_updates)):
            if not isinstance(value, int) or value <= 0:
                raise ValueError(
                    f"{type(self).__name__}: {name} must be a positive integer; got {value!r}"
                )
        self.base_value = base_value
        self.num_decays = num_decays
        self.gamma = gamma
        self.num_updates = num_updates
        # Repeated multiplication, not gamma**k: the rounding is part of published schedules.
        values = list(accumulate([base_value] + [gamma] * num_decays, lambda a, b: a * b))
        self._steps = StepParamScheduler(num_updates, values)

    def __call__(self, where: float) -> float:
        return self._steps(where)


class CompositeParamScheduler(ParamScheduler):
    """Several schedules one after the other.

    Args:
        schedulers: the schedules, first to last.
        lengths: the share of training that each one takes; they sum to 1.
        interval_scaling: for each schedule, ``"rescaled"`` plays all of it within its share,
            ``"fixed"`` plays the part of it that falls into its share.

    Raises:
        ValueError: If the three lists don't fit together, or the lengths don't sum to 1.
    """

    def __init__(
        self,
        schedulers: Sequence[ParamScheduler],
        lengths: Sequence[float],
        interval_scaling: Sequence[str],
    ) -> None:
        if not schedulers or not len(schedulers) == len(lengths) == len(interval_scaling):
            raise ValueError(
                "CompositeParamScheduler: give one length and one scaling per schedule, and at"
                f" least one schedule; got {len(schedulers)} schedules, {len(lengths)} lengths,"
                f" {len(interval_scaling)} scalings"
            )
        if abs(sum(lengths) - 1.0) >= 1e-3:
            raise ValueError(f"CompositeParamScheduler: lengths must sum to 1; got {lengths}")
        wrong = [s for s in interval_scaling if s not in ("rescaled", "fixed")]
        if wrong:
            raise ValueError(
                f"CompositeParamScheduler: a scaling is 'rescaled' or 'fixed'; got {wrong[0]!r}"
            )
        self._schedulers = schedulers
        self._lengths = [*lengths[:-1], 1.0 - sum(lengths[:-1])]
        self._interval_scaling = interval_scaling

    def __call__(self, where: float) -> float:
        index, end = 0, self._lengths[0]
        while where + self.WHERE_EPSILON > end and index + 1 < len(self._lengths):
            index += 1
            end += self._lengths[index]
        length = self._lengths[index]
        if self._interval_scaling[index] == "rescaled" and length > 0:
            where = (where - (end - length)) / length
        return self._schedulers[index](where)
