"""Timing of a function, as ``fvcore.common.benchmark`` offers it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from retinue.utils.tables import format_table

__all__ = ["benchmark", "timeit"]

_SECONDS = 1.0  # how long to measure if no number of runs is given

logger = logging.getLogger(__name__)


def timeit(
    num_iters: int = -1, warmup_iters: int = 0
) -> Callable[[Callable[..., Any]], Callable[..., dict[str, float]]]:
    """Make a decorator that times a function instead of returning its result.

    Args:
        num_iters: runs that are timed; -1 for as many as fit into a second, at least two.
        warmup_iters: runs before.

    Returns:
        a decorator; what it makes returns ``iterations``, ``mean``, ``median``, ``min``, ``max``
        and ``stddev``, in seconds.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., dict[str, float]]:
        def timed(*args: Any, **kwargs: Any) -> dict[str, float]:
            for _ in range(warmup_iters):
                function(*args, **kwargs)
            seconds: list[float] = []
            begin = time.perf_counter()
            while len(seconds) < max(num_iters, 2) or (
                num_iters < 0 and time.perf_counter() - begin < _SECONDS
            ):
                start = time.perf_counter()
                function(*args, **kwargs)
                seconds.append(time.perf_counter() - start)
                if len(seconds) == num_iters:
                    break
            return {
                "iterations": len(seconds),
                "mean": float(np.mean(seconds)),
                "median": float(np.median(seconds)),
                "min": float(np.min(seconds)),
                "max": float(np.max(seconds)),
                "stddev": float(np.std(seconds)),
            }

        return timed

    return decorate


def benchmark(
    func: Callable[..., Callable[[], Any]],
    bm_name: str,
    kwargs_list: Sequence[Mapping[str, Any]],
    *,
    num_iters: int = -1,
    warmup_iters: int = 0,
) -> None:
    """Time the function that ``func`` makes of each set of arguments, and print a table.

    Args:
        func: takes a set of arguments, prepares, and returns the function to be timed.
        bm_name: what the table is called.
        kwargs_list: the sets of arguments.
        num_iters, warmup_iters: see ``timeit``.
    """
    print(f"{bm_name}: times in milliseconds")
    rows = []
    for kwargs in kwargs_list:
        stats = timeit(num_iters, warmup_iters)(func(**kwargs))()
        given = ", ".join(f"{name}={value}" for name, value in kwargs.items())
        times = [f"{1000 * stats[k]:.3f}" for k in ("mean", "median", "min", "max", "stddev")]
        rows.append([given, str(stats["iterations"]), *times])
    print(format_table(rows, ["arguments", "runs", "mean", "median", "min", "max", "stddev"]))
