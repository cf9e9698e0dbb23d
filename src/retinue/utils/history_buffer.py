"""A series of numbers, with its median and mean over the latest of them.

Tensors may go in; they stay on their device until the series is read, so that recording a loss
does not make the host wait for the accelerator.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch

from retinue.utils.errors import InputError

__all__ = ["HistoryBuffer", "read_pending"]

MAX_PENDING = 1000
"""Tensors that a series keeps before it reads them by itself."""


class HistoryBuffer:
    """The latest ``max_length`` values of a series, and the mean of all there ever were."""

    def __init__(self, max_length: int = 1000000) -> None:
        self._max_length = max_length
        self._data: list[tuple[float, float]] = []
        self._pending: list[tuple[torch.Tensor | float, float]] = []  # in the order they came
        self._count = 0
        self._global_avg = 0.0

    def update(self, value: float | torch.Tensor, iteration: float | None = None) -> None:
        """Append a value.

        Args:
            value: a number, or a tensor of one element, which is read later.
            iteration: when it was measured; None counts the values.

        Raises:
            InputError: If a tensor has more elements than one, or none.
            TypeError, ValueError: If it is no number.
        """
        when = self._count + len(self._pending) if iteration is None else iteration
        if isinstance(value, torch.Tensor):
            if value.numel() != 1:
                raise InputError(
                    f"HistoryBuffer.update: expected one number; got shape {tuple(value.shape)}"
                )
            value = value.detach().clone()  # the caller may change it before it is read
        else:
            value = float(value)
        self._pending.append((value, when))
        if len(self._pending) >= MAX_PENDING:
            read_pending([self])

    def _absorb(self, values: Iterable[float]) -> None:
        """Take over the numbers that the pending values turned out to be."""
        for value, (_, when) in zip(values, self._pending, strict=True):
            self._data.append((value, when))
            self._count += 1
            self._global_avg += (value - self._global_avg) / self._count
        self._pending.clear()
        if len(self._data) > self._max_length:
            del self._data[: len(self._data) - self._max_length]

    def _read(self) -> list[tuple[float, float]]:
        if self._pending:
            read_pending([self])
        return self._data

    def latest(self) -> float:
        """Return the last value."""
        return self._read()[-1][0]

    def median(self, window_size: int) -> float:
        """Return the median of the last ``window_size`` values."""
        return float(np.median([value for value, _ in self._read()[-window_size:]]))

    def avg(self, window_size: int) -> float:
        """Return the mean of the last ``window_size`` values."""
        return float(np.mean([value for value, _ in self._read()[-window_size:]]))

    def global_avg(self) -> float:
        """Return the mean of all values ever put in, forgotten ones included."""
        self._read()
        return self._global_avg

    def values(self) -> list[tuple[float, float]]:
        """Return the kept ``(value, iteration)`` pairs, oldest first."""
        return self._read()


def read_pending(buffers: Iterable[HistoryBuffer]) -> None:
    """Read the tensors that wait in ``buffers``, with one transfer for each device and dtype."""
    buffers = [buffer for buffer in buffers if buffer._pending]
    waiting: dict[tuple[torch.device, torch.dtype], list[torch.Tensor]] = {}
    for buffer in buffers:
        for value, _ in buffer._pending:
            if isinstance(value, torch.Tensor):
                waiting.setdefault((value.device, value.dtype), []).append(value.reshape(()))
    numbers = {kind: iter(torch.stack(tensors).tolist()) for kind, tensors in waiting.items()}
    for buffer in buffers:
        buffer._absorb(
            [
                float(next(numbers[value.device, value.dtype]))
                if isinstance(value, torch.Tensor)
                else float(value)
                for value, _ in buffer._pending
            ]
        )
