"""Ctrl-C during training: finish the iteration, save, and say how to go on."""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import Any

from retinue.utils import comm

__all__ = ["Interrupt"]


class Interrupt:
    """Within its block, the first Ctrl-C is a request; the second one acts as usual.

    Only the main thread of a process receives signals; elsewhere the block does nothing.
    """

    def __init__(self) -> None:
        self._is_requested = False
        self._before: Any = None
        self._process = os.getpid()

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._on_signal)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        self._restore()

    def _restore(self) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
            self._before = None

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            return  # a data loading worker; the training process will end it
        self._is_requested = True
        self._restore()
        print(
            "\nCtrl-C: training stops and saves after this iteration; press it again to stop at"
            " once, without saving",
            file=sys.stderr,
            flush=True,
        )

    def is_requested(self) -> bool:
        """Say whether any process was asked to stop; all of them have to ask at the same time."""
        return comm.any_process(self._is_requested)
