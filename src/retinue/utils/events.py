"""What is measured during training, and the writers that show it.

``EventStorage`` holds series of scalars, pictures and histograms. Models report with
``log_scalars``, which does nothing while no storage is active. Writers read the active storage:
``CommonMetricPrinter`` prints the progress line, ``JSONWriter`` appends to ``metrics.json``,
``TensorboardXWriter`` feeds TensorBoard.

Reading order: log_scalars, EventStorage, the writers.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import logging
import os
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cached_property
from types import TracebackType
from typing import IO, Any

import torch

from retinue.utils.errors import InputError
from retinue.utils.file_io import PathManager
from retinue.utils.history_buffer import HistoryBuffer, read_pending

__all__ = [
    "CommonMetricPrinter",
    "EventStorage",
    "EventWriter",
    "JSONWriter",
    "TensorboardXWriter",
    "get_event_storage",
    "has_event_storage",
    "log_scalars",
]

_CURRENT_STORAGE_STACK: list[EventStorage] = []


def get_event_storage() -> EventStorage:
    """Return the storage of the innermost ``with EventStorage():`` block.

    Raises:
        InputError: If there is none.
    """
    if not _CURRENT_STORAGE_STACK:
        raise InputError(
            "get_event_storage(): expected to be inside `with EventStorage():`; got no active"
            " storage; ask has_event_storage() first, or report with log_scalars()"
        )
    return _CURRENT_STORAGE_STACK[-1]


def has_event_storage() -> bool:
    """Say whether a storage is active."""
    return bool(_CURRENT_STORAGE_STACK)


def log_scalars(
    scalars: Mapping[str, torch.Tensor | float] | None = None,
    /,
    *,
    smoothing_hint: bool = True,
    **more: torch.Tensor | float,
) -> None:
    """Report scalars to the active storage; does nothing where there is none.

    Args:
        scalars: name -> number or one-element tensor; tensors are not read here.
        smoothing_hint: whether writers may show a median over a window.
        more: the same, for names that are Python names.
    """
    if _CURRENT_STORAGE_STACK:
        storage = _CURRENT_STORAGE_STACK[-1]
        for name, value in {**(scalars or {}), **more}.items():
            storage.put_scalar(name, value, smoothing_hint=smoothing_hint)


class EventStorage:
    """Series of measurements of one run; active inside its ``with`` block.

    Example:
        >>> with EventStorage() as storage:
        ...     log_scalars(loss=torch.tensor(0.5))
        ...     storage.step()
        >>> storage.latest()
        {'loss': (0.5, 0)}
    """

    def __init__(self, start_iter: int = 0) -> None:
        self._history: dict[str, HistoryBuffer] = defaultdict(HistoryBuffer)
        self._smoothing_hints: dict[str, bool] = {}
        self._latest_iter: dict[str, int] = {}
        self._iter = start_iter
        self._current_prefix = ""
        self._vis_data: list[tuple[str, Any, int]] = []
        self._histograms: list[dict[str, Any]] = []

    def put_image(self, img_name: str, img_tensor: Any) -> None:
        """Keep a picture for the writers: ``(C, H, W)``, uint8 or float in [0, 1], RGB."""
        self._vis_data.append((img_name, img_tensor, self._iter))

    def put_scalar(
        self,
        name: str,
        value: float | torch.Tensor,
        smoothing_hint: bool = True,
        cur_iter: int | None = None,
    ) -> None:
        """Append a value to the series ``name``.

        Args:
            value: a number or a one-element tensor; a tensor is read when a writer asks.
            smoothing_hint: whether writers may show a median; the same at each call for a name.
            cur_iter: the iteration it belongs to, if not the current one.

        Raises:
            InputError: If the hint differs from the one given for this name before.
        """
        name = self._current_prefix + name
        when = self._iter if cur_iter is None else cur_iter
        if self._smoothing_hints.setdefault(name, smoothing_hint) != smoothing_hint:
            raise InputError(
                f"scalar {name!r}: expected smoothing_hint={not smoothing_hint} as before;"
                f" got {smoothing_hint}; use one value for a name"
            )
        self._history[name].update(value, when)
        self._latest_iter[name] = when

    def put_scalars(
        self, *, smoothing_hint: bool = True, cur_iter: int | None = None, **kwargs: Any
    ) -> None:
        """Append a value to each of several series, as ``put_scalar`` does."""
        for name, value in kwargs.items():
            self.put_scalar(name, value, smoothing_hint=smoothing_hint, cur_iter=cur_iter)

    def put_histogram(self, hist_name: str, hist_tensor: torch.Tensor, bins: int = 1000) -> None:
        """Keep the histogram of a tensor's values for the writers."""
        values = torch.as_tensor(hist_tensor).detach().float().flatten()
        low, high = values.min().item(), values.max().item()
        edges = torch.linspace(low, high, bins + 1)[1:]
        self._histograms.append(
            {
                "tag": hist_name,
                "min": low,
                "max": high,
                "num": values.numel(),
                "sum": values.sum().item(),
                "sum_squares": values.square().sum().item(),
                "bucket_limits": edges.tolist(),
                "bucket_counts": torch.histc(values, bins=bins).tolist(),
                "global_step": self._iter,
            }
        )

    def history(self, name: str) -> HistoryBuffer:
        """Return the series ``name``.

        Raises:
            KeyError: If nothing was put under that name.
        """
        if name not in self._history:
            raise KeyError(
                f"no scalar {name!r} was recorded; there are: {', '.join(self._history)}"
            )
        return self._history[name]

    def histories(self) -> dict[str, HistoryBuffer]:
        """Return all series by name."""
        read_pending(self._history.values())
        return self._history

    def latest(self) -> dict[str, tuple[float, int]]:
        """Return name -> (last value, its iteration)."""
        histories = self.histories()
        return {name: (histories[name].latest(), it) for name, it in self._latest_iter.items()}

    def latest_with_smoothing_hint(self, window_size: int = 20) -> dict[str, tuple[float, int]]:
        """Return ``latest()``, with medians where smoothing is allowed.

        The median is over the values of the last ``window_size`` iterations of that series.
        """
        return {
            name: (
                self._history[name].median(self.count_samples(name, window_size))
                if self._smoothing_hints[name]
                else value,
                iteration,
            )
            for name, (value, iteration) in self.latest().items()
        }

    def count_samples(self, name: str, window_size: int = 20) -> int:
        """Return how many values a series got in its last ``window_size`` iterations.

        There are none of a name that was not recorded.
        """
        count = 0
        data = self.history(name).values() if name in self._history else []
        for _, iteration in reversed(data):
            if iteration <= data[-1][1] - window_size:
                break
            count += 1
        return count

    def smoothing_hints(self) -> dict[str, bool]:
        """Return name -> whether it may be smoothed."""
        return self._smoothing_hints

    def step(self) -> None:
        """Go to the next iteration; call it once at the end of each."""
        self._iter += 1

    @property
    def iter(self) -> int:
        """The current iteration, from ``start_iter``."""
        return self._iter

    @iter.setter
    def iter(self, val: int) -> None:
        self._iter = int(val)

    @property
    def iteration(self) -> int:
        """The same as ``iter``."""
        return self._iter

    def __enter__(self) -> EventStorage:
        _CURRENT_STORAGE_STACK.append(self)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        assert _CURRENT_STORAGE_STACK[-1] is self
        _CURRENT_STORAGE_STACK.pop()

    @contextlib.contextmanager
    def name_scope(self, name: str) -> Iterator[None]:
        """Put ``name/`` before the names of the scalars that the block reports."""
        outside = self._current_prefix
        self._current_prefix = name.rstrip("/") + "/"
        try:
            yield
        finally:
            self._current_prefix = outside

    def clear_images(self) -> None:
        """Forget the pictures; a writer does this after showing them."""
        self._vis_data = []

    def clear_histograms(self) -> None:
        """Forget the histograms; a writer does this after showing them."""
        self._histograms = []


class EventWriter:
    """Shows what the active ``EventStorage`` holds, whenever ``write`` is called."""

    def write(self) -> None:
        """Show what is new."""
        raise NotImplementedError

    def close(self) -> None:
        """Write out what is buffered and let go of files."""


class JSONWriter(EventWriter):
    """Appends one JSON object per iteration to a file: ``{"iteration": 19, "total_loss": ...}``.

    Args:
        json_file: path; what is there already is kept, so that a resumed run goes on in it.
        window_size: iterations that medians are over.
    """

    def __init__(self, json_file: str, window_size: int = 20) -> None:
        self._json_file = json_file
        self._window_size = window_size
        self._last_write = -1

    @cached_property
    def _file_handle(self) -> IO[str]:
        return PathManager.open(self._json_file, "a")

    def write(self) -> None:
        """Append the scalars that came since the last call."""
        rows: dict[int, dict[str, float]] = defaultdict(dict)
        latest = get_event_storage().latest_with_smoothing_hint(self._window_size)
        for name, (value, iteration) in latest.items():
            if iteration > self._last_write:
                rows[iteration][name] = value
        for iteration in sorted(rows):
            line = json.dumps({"iteration": iteration} | rows[iteration], sort_keys=True)
            self._file_handle.write(line + "\n")
            self._last_write = iteration
        self._file_handle.flush()
        with contextlib.suppress(AttributeError, OSError):  # not every storage has a descriptor
            os.fsync(self._file_handle.fileno())

    def close(self) -> None:
        """Close the file, if it was opened."""
        if "_file_handle" in self.__dict__:
            self._file_handle.close()


class TensorboardXWriter(EventWriter):
    """Writes scalars, pictures and histograms for TensorBoard; needs ``retinue[tensorboard]``.

    Args:
        log_dir: folder for the event files.
        window_size: iterations that medians are over.
        kwargs: further arguments of ``torch.utils.tensorboard.SummaryWriter``.
    """

    def __init__(self, log_dir: str, window_size: int = 20, **kwargs: Any) -> None:
        self._window_size = window_size
        self._writer_args = {"log_dir": log_dir, **kwargs}
        self._last_write = -1

    @cached_property
    def _writer(self) -> Any:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ImportError(
                "TensorboardXWriter needs TensorBoard: pip install 'retinue[tensorboard]'"
            ) from error
        return SummaryWriter(**self._writer_args)

    def write(self) -> None:
        """Write what came since the last call."""
        storage = get_event_storage()
        newest = self._last_write
        for name, (value, step) in storage.latest_with_smoothing_hint(self._window_size).items():
            if step > self._last_write:
                self._writer.add_scalar(name, value, step)
                newest = max(newest, step)
        self._last_write = newest
        for name, image, step in storage._vis_data:
            self._writer.add_image(name, image, step)
        storage.clear_images()
        for histogram in storage._histograms:
            self._writer.add_histogram_raw(**histogram)
        storage.clear_histograms()

    def close(self) -> None:
        """Close the event file, if one was opened."""
        if "_writer" in self.__dict__:
            self._writer.close()


class CommonMetricPrinter(EventWriter):
    """Prints the progress line: time left, iteration, losses, times, learning rate, memory.

    Losses are the scalars with ``loss`` in their name; those with ``[metric]`` follow them.

    Args:
        max_iter: iterations that the run will have; without it no time left is printed.
        window_size: iterations that medians are over.
    """

    def __init__(self, max_iter: int | None = None, window_size: int = 20) -> None:
        self.logger = logging.getLogger(__name__)
        self._max_iter = max_iter
        self._window_size = window_size
        self._last_write: tuple[int, float] | None = None  # iteration and time of the last line

    def _get_eta(self, storage: EventStorage) -> str | None:
        if self._max_iter is None:
            return ""
        left = self._max_iter - storage.iter - 1
        if "time" in storage.histories():
            seconds = storage.history("time").median(1000) * left
            storage.put_scalar("eta_seconds", seconds, smoothing_hint=False)
            return str(datetime.timedelta(seconds=int(seconds)))
        now, before = (storage.iter, time.perf_counter()), self._last_write
        self._last_write = now
        if before is None or now[0] == before[0]:
            return None
        seconds = (now[1] - before[1]) / (now[0] - before[0]) * left
        return str(datetime.timedelta(seconds=int(seconds)))

    def _medians(self, storage: EventStorage, mark: str) -> str:
        return "  ".join(
            f"{name}: {series.median(storage.count_samples(name, self._window_size)):.4g}"
            for name, series in storage.histories().items()
            if mark in name
        )

    def _times(self, storage: EventStorage) -> str:
        text, histories = "", storage.histories()
        if "time" in histories:  # the first iterations are not timed
            series = histories["time"]
            text += f"time: {series.global_avg():.4f}  last_time: {series.latest():.4f}  "
        if "data_time" in histories:
            series = histories["data_time"]
            mean = series.avg(storage.count_samples("data_time", self._window_size))
            text += f"data_time: {mean:.4f}  last_data_time: {series.latest():.4f}  "
        return text

    def write(self) -> None:
        """Print the line for the current iteration; nothing once the run is over."""
        storage = get_event_storage()
        if storage.iter == self._max_iter:
            return
        eta = self._get_eta(storage)
        histories = storage.histories()
        lr = f"{histories['lr'].latest():.5g}" if "lr" in histories else "N/A"
        memory = ""
        if torch.cuda.is_available():
            memory = f"max_mem: {torch.cuda.max_memory_allocated() / 2**20:.0f}M"
        self.logger.info(  # programs parse this line: the order and spaces are fixed
            f" {f'eta: {eta}  ' if eta else ''}iter: {storage.iter}"
            f"  {self._medians(storage, 'loss')}  {self._medians(storage, '[metric]')}"
            f"  {self._times(storage)} lr: {lr}  {memory}"
        )
