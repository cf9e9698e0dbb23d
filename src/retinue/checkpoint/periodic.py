"""Saving every few iterations, and keeping the newest files."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from typing import Any, Protocol

from retinue.utils.errors import InputError

__all__ = ["PeriodicCheckpointer"]


class Saves(Protocol):
    """What is asked of a ``Checkpointer``."""

    path_manager: Any
    save_to_disk: bool
    sharded: bool

    def save(self, name: str, **kwargs: Any) -> Any: ...
    def wait(self) -> None: ...
    def in_turn(self, function: Callable[[], object]) -> None: ...
    def get_checkpoint_file(self) -> str: ...
    def get_all_checkpoint_files(self) -> list[str]: ...


class PeriodicCheckpointer:
    """Saves every few iterations and at the end, and keeps the newest files.

    Args:
        checkpointer: what saves.
        period: iterations between saves.
        max_iter: iterations in all; the last one is saved as ``<file_prefix>_final.pth``.
        max_to_keep: how many of the numbered files to keep; all by default.
        file_prefix: files are ``<file_prefix>_0000099.pth``.

    Raises:
        InputError: If ``max_to_keep`` is not positive.
    """

    def __init__(
        self,
        checkpointer: Saves,
        period: int,
        max_iter: int | None = None,
        max_to_keep: int | None = None,
        file_prefix: str = "model",
    ) -> None:
        if max_to_keep is not None and max_to_keep < 1:
            raise InputError(
                f"PeriodicCheckpointer: max_to_keep must be above 0; got {max_to_keep}"
            )
        self.checkpointer = checkpointer
        self.period = int(period)
        self.max_iter = max_iter
        self.max_to_keep = max_to_keep
        self.recent_checkpoints: list[str] = []
        self.path_manager: Any = checkpointer.path_manager
        self.file_prefix = file_prefix

    def step(self, iteration: int, **kwargs: Any) -> None:
        """Save if it is time to, after iteration number ``iteration`` (from 0).

        Args:
            iteration: saved as ``iteration``.
            kwargs: further plain data to save.
        """
        iteration = int(iteration)
        state = {"iteration": iteration, **kwargs}
        if self.period > 0 and (iteration + 1) % self.period == 0:
            if self.max_to_keep is not None and not self.recent_checkpoints:
                self.recent_checkpoints = self._earlier_files(iteration)
            self.checkpointer.save(f"{self.file_prefix}_{iteration:07d}", **state)
            if self.max_to_keep is not None and self.checkpointer.save_to_disk:
                self.checkpointer.in_turn(self._keep)
        if self.max_iter is not None and iteration >= self.max_iter - 1:
            self.save_final(**state)

    def save_final(self, iteration: int, **kwargs: Any) -> None:
        """Save what ``step`` saves at the end, and wait until it is written."""
        self.checkpointer.save(f"{self.file_prefix}_final", iteration=iteration, **kwargs)
        self.checkpointer.wait()

    def _earlier_files(self, iteration: int) -> list[str]:
        """Find the numbered files of the run that this one resumes."""
        numbered = re.compile(rf"{re.escape(self.file_prefix)}_(\d{{7,}})(\.pth)?")
        found = []
        for path in self.checkpointer.get_all_checkpoint_files():
            match = numbered.fullmatch(os.path.basename(path))
            if match and int(match[1]) < iteration:
                found.append(path)
        return sorted(found)

    def _keep(self) -> None:
        self.recent_checkpoints.append(self.checkpointer.get_checkpoint_file())
        while len(self.recent_checkpoints) > (self.max_to_keep or 1):
            oldest = self.recent_checkpoints.pop(0)
            if os.path.isdir(oldest):
                shutil.rmtree(oldest, ignore_errors=True)
            elif self.path_manager.exists(oldest):
                self.path_manager.rm(oldest)

    def save(self, name: str, **kwargs: Any) -> None:
        """Save now, as ``Checkpointer.save`` does."""
        self.checkpointer.save(name, **kwargs)
