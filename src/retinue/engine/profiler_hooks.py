"""Hooks that show where time and memory go."""

from __future__ import annotations

import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import torch

from retinue.engine.loop import HookBase
from retinue.utils import comm
from retinue.utils.file_io import PathManager

__all__ = ["AutogradProfiler", "TorchMemoryStats", "TorchProfiler"]

logger = logging.getLogger("retinue.engine.hooks")


class TorchProfiler(HookBase):
    """Profiles chosen iterations with ``torch.profiler``.

    Args:
        enable_predicate: says of a trainer whether to profile its current iteration, e.g.
            ``lambda trainer: 10 < trainer.iter < 20``.
        output_dir: gets ``log`` for TensorBoard, or ``profiler-trace-iterN.json`` for a browser's
            ``chrome://tracing``.
        activities: what to record, see ``torch.profiler.profile``.
        save_tensorboard: which of the two to write.
    """

    def __init__(
        self,
        enable_predicate: Callable[[Any], bool],
        output_dir: str,
        *,
        activities: Iterable[Any] | None = None,
        save_tensorboard: bool = True,
    ) -> None:
        self._enable_predicate = enable_predicate
        self._output_dir = output_dir
        self._activities = activities
        self._save_tensorboard = save_tensorboard
        self._profiler: Any = None

    def before_step(self) -> None:
        self._profiler = self._make() if self._enable_predicate(self.trainer) else None
        if self._profiler is not None:
            self._profiler.__enter__()

    def _make(self) -> Any:
        on_trace_ready = None
        if self._save_tensorboard:
            name = f"profiler-tensorboard-iter{self.trainer.iter}"
            on_trace_ready = torch.profiler.tensorboard_trace_handler(
                os.path.join(self._output_dir, "log", name), f"worker{comm.get_rank()}"
            )
        return torch.profiler.profile(
            activities=self._activities,
            on_trace_ready=on_trace_ready,
            record_shapes=True,
            profile_memory=True,
            with_stack=True,
            with_flops=True,
        )

    def after_step(self) -> None:
        if self._profiler is None:
            return
        self._profiler.__exit__(None, None, None)
        if self._save_tensorboard:
            return
        PathManager.mkdirs(self._output_dir)
        name = f"profiler-trace-iter{self.trainer.iter}.json"
        with tempfile.TemporaryDirectory() as folder:  # the profiler writes local files only
            local = os.path.join(folder, name)
            self._profiler.export_chrome_trace(local)
            target = os.path.join(self._output_dir, name)
            PathManager.copy_from_local(local, target, overwrite=True)


class AutogradProfiler(TorchProfiler):
    """Profiles chosen iterations with ``torch.autograd.profiler``, the older one.

    Args:
        enable_predicate: see ``TorchProfiler``.
        output_dir: see ``TorchProfiler``.
        use_cuda: record kernels, too.
    """

    def __init__(
        self,
        enable_predicate: Callable[[Any], bool],
        output_dir: str,
        *,
        use_cuda: bool = True,
    ) -> None:
        warnings.warn(
            "AutogradProfiler is kept for old code; TorchProfiler shows more", stacklevel=2
        )
        super().__init__(enable_predicate, output_dir, save_tensorboard=False)
        self._use_cuda = use_cuda

    def _make(self) -> Any:
        device = "cuda" if self._use_cuda and torch.cuda.is_available() else None
        return torch.autograd.profiler.profile(use_device=device)


class TorchMemoryStats(HookBase):
    """Logs how much CUDA memory is used, every ``period`` iterations, ``max_runs`` times."""

    def __init__(self, period: int = 20, max_runs: int = 10) -> None:
        self._period = period
        self._max_runs = max_runs
        self._runs = 0

    def after_step(self) -> None:
        if self._runs >= self._max_runs or not torch.cuda.is_available():
            return
        done = self.trainer.iter + 1
        if done % self._period and done != self.trainer.max_iter:
            return
        amounts = {
            "max_reserved_mem": torch.cuda.max_memory_reserved(),
            "reserved_mem": torch.cuda.memory_reserved(),
            "max_allocated_mem": torch.cuda.max_memory_allocated(),
            "allocated_mem": torch.cuda.memory_allocated(),
        }
        text = "  ".join(f"{name}: {amount / 2**20:.0f}MB" for name, amount in amounts.items())
        logger.info(" iter: %d  %s", self.trainer.iter, text)
        self._runs += 1
        if self._runs == self._max_runs:
            logger.info("%s", torch.cuda.memory_summary())
        torch.cuda.reset_peak_memory_stats()
