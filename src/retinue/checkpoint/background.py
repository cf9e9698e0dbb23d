"""Writing while training goes on: a copy of the state, and one thread that works in turn."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch

__all__ = ["InTurn", "snapshot"]


class InTurn:
    """Runs functions one after the other: at once, or in a thread of its own.

    A function whose forerunner failed is not run; the error is raised by the next ``wait``. When
    the interpreter ends, it waits for what is still to be done.

    Args:
        is_async: whether to use a thread.
    """

    def __init__(self, is_async: bool) -> None:
        self.is_async = is_async
        self._executor: ThreadPoolExecutor | None = None
        self._pending: list[Future[None]] = []
        self._thread: int | None = None
        self._failed = False

    def do(self, function: Callable[[], None]) -> None:
        """Run ``function``, or have it run."""
        if not self.is_async:
            function()
            return
        if self._executor is None:
            self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._pending.append(self._executor.submit(self._run, function))

    def _run(self, function: Callable[[], None]) -> None:
        self._thread = threading.get_ident()
        if self._failed:
            return
        try:
            function()
        except BaseException:
            self._failed = True
            raise

    def wait(self) -> None:
        """Wait until all is done.

        Raises:
            Exception: What the first function that failed raised.
        """
        if threading.get_ident() == self._thread:
            return  # asked from inside a function
        pending, self._pending = self._pending, []
        errors = [error for future in pending if (error := future.exception())]
        self._failed = False
        if errors:
            raise errors[0]


def snapshot(value: Any) -> Any:
    """Copy the tensors in dicts, lists and tuples to the CPU's memory."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        copied: dict[Any, Any] = OrderedDict() if isinstance(value, OrderedDict) else {}
        copied.update({key: snapshot(item) for key, item in value.items()})
        if hasattr(value, "_metadata"):  # versions of modules, in a state dict
            copied._metadata = value._metadata  # type: ignore[attr-defined]
        return copied
    if isinstance(value, list | tuple):
        items = [snapshot(item) for item in value]
        return tuple(items) if isinstance(value, tuple) else items
    return value
