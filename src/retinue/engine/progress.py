"""A progress bar with time left and losses, for runs on a terminal."""

from __future__ import annotations

import sys
from typing import Any

from retinue.utils.events import EventWriter, get_event_storage

__all__ = ["ProgressBar", "is_terminal"]


def is_terminal() -> bool:
    """Whether somebody is looking: the standard output is a terminal."""
    return bool(getattr(sys.stdout, "isatty", bool)())


class ProgressBar(EventWriter):
    """Shows iterations done, time left, and the losses as they are written.

    While it is shown, what is printed or logged scrolls by above it.

    Args:
        max_iter: iterations that the run will have.
        window_size: iterations that the losses shown are the median of.
    """

    def __init__(self, max_iter: int, window_size: int = 20) -> None:
        self._max_iter = max_iter
        self._window_size = window_size
        self._progress: Any = None
        self._task: Any = None

    def _start(self) -> None:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self._progress = Progress(
            TextColumn("[bold]train"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("[cyan]{task.fields[losses]}"),
        )
        start = get_event_storage().iter
        self._task = self._progress.add_task(
            "train", total=self._max_iter, completed=start, losses=""
        )
        self._progress.start()

    def write(self) -> None:
        """Move the bar to the current iteration."""
        storage = get_event_storage()
        if self._progress is None:
            self._start()
        losses = [
            f"{name.removeprefix('loss_').replace('total_loss', 'loss')} "
            f"{series.median(storage.count_samples(name, self._window_size)):.3g}"
            for name, series in storage.histories().items()
            if "loss" in name and "/" not in name
        ]
        done = min(storage.iter + 1, self._max_iter)
        self._progress.update(self._task, completed=done, losses="  ".join(losses))

    def close(self) -> None:
        """Take the bar down."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
