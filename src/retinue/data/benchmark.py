"""How fast data loading is, step by step: samples, mapping, workers, transport, many processes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from torch.utils.data import Dataset, Sampler

from retinue.data.build import build_batch_data_loader
from retinue.data.common import DatasetFromList, MapDataset
from retinue.data.samplers import TrainingSampler
from retinue.utils import comm
from retinue.utils.timer import Timer

logger = logging.getLogger(__name__)


class _EmptyMapDataset(Dataset[Any]):
    """Reads samples and gives out nothing, so that only reading takes time."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, idx: int) -> list[int]:
        self.dataset[idx]
        return [0]


def iter_benchmark(
    iterator: Iterable[Any], num_iter: int, warmup: int = 5, max_time_seconds: float = 60
) -> tuple[float, list[float]]:
    """Time the steps of an iterator.

    Args:
        iterator: gives at least ``warmup + num_iter`` items.
        num_iter: steps to time.
        warmup: steps before that.
        max_time_seconds: stop after this time.

    Returns:
        Seconds a step on average, and of each step.
    """
    items = iter(iterator)
    for _ in range(int(warmup)):
        next(items)
    timer = Timer()
    times: list[float] = []
    before = 0.0
    while len(times) < int(num_iter) and before <= max_time_seconds:
        next(items)
        now = timer.seconds()
        times.append(now - before)
        before = now
    return before / max(len(times), 1), times


class DataLoaderBenchmark:
    """Times the parts of a training loader; results go to the log.

    Args:
        dataset: a list of dataset dicts, or a dataset with indices.
        mapper: sample -> model input.
        sampler: order of the samples; a ``TrainingSampler`` if None.
        total_batch_size: samples in a batch, all processes together.
        num_workers: processes that read.
        max_time_seconds: stop each measurement after this time.
    """

    def __init__(
        self,
        dataset: Any,
        *,
        mapper: Callable[[Any], Any],
        sampler: Sampler[int] | None = None,
        total_batch_size: int,
        num_workers: int = 0,
        max_time_seconds: float = 90,
    ) -> None:
        if isinstance(dataset, list):
            dataset = DatasetFromList(dataset, copy=False, serialize=True)
        self.dataset = dataset
        self.mapper = mapper
        self.sampler = TrainingSampler(len(dataset)) if sampler is None else sampler
        self.total_batch_size = total_batch_size
        self.num_workers = num_workers
        self.per_gpu_batch_size = total_batch_size // comm.get_world_size()
        self.max_time_seconds = max_time_seconds

    def _benchmark(
        self, iterator: Iterable[Any], num_iter: int, warmup: int, msg: str | None = None
    ) -> tuple[float, list[float]]:
        average, times = iter_benchmark(iterator, num_iter, warmup, self.max_time_seconds)
        if msg is not None:
            self._log_time(msg, average, times)
        return average, times

    def _log_time(
        self, msg: str, avg: float, all_times: list[float], distributed: bool = False
    ) -> None:
        mine = (avg, np.percentile(all_times, [1, 5, 95, 99], method="nearest").tolist())
        rows = comm.all_gather(mine) if distributed else [mine]
        if distributed and not comm.is_main_process():
            return
        for rank, (average, (p1, p5, p95, p99)) in enumerate(rows):
            logger.info(
                "%s%s: %.1f it/s, steps in seconds: p1 %.2g, p5 %.2g, p95 %.2g, p99 %.2g",
                f"rank {rank}, " if distributed else "",
                msg,
                1 / average,
                p1,
                p5,
                p95,
                p99,
            )

    def _indices(self) -> Iterator[int]:
        while True:
            yield from self.sampler

    def _loader(self, dataset: Any, num_workers: int) -> Any:
        return build_batch_data_loader(
            dataset, self.sampler, self.total_batch_size, num_workers=num_workers
        )

    def benchmark_dataset(self, num_iter: int, warmup: int = 5) -> None:
        """Time taking samples from the dataset."""
        samples = (self.dataset[index] for index in self._indices())
        self._benchmark(samples, num_iter, warmup, "dataset alone")

    def benchmark_mapper(self, num_iter: int, warmup: int = 5) -> None:
        """Time taking and mapping samples in this process."""
        samples = (self.mapper(self.dataset[index]) for index in self._indices())
        self._benchmark(samples, num_iter, warmup, "mapper in one process (an it is a sample)")

    def benchmark_workers(self, num_iter: int, warmup: int = 10) -> None:
        """Time batches with no worker, one, and ``num_workers``."""
        dataset = MapDataset(self.dataset, self.mapper)
        for workers in sorted({0, 1, self.num_workers}):
            scale = max(workers, 1)
            name = f"loader with {workers} workers, batches of {self.per_gpu_batch_size}"
            loader = self._loader(dataset, workers)
            self._benchmark(loader, num_iter * scale, warmup * scale, name)

    def benchmark_IPC(self, num_iter: int, warmup: int = 10) -> None:
        """Time workers that send nothing; the difference is what transport takes."""
        dataset = _EmptyMapDataset(MapDataset(self.dataset, self.mapper))
        scale = max(self.num_workers, 1)
        name = f"loader with {self.num_workers} workers, nothing sent"
        loader = self._loader(dataset, self.num_workers)
        self._benchmark(loader, num_iter * scale, warmup * scale, name)

    def benchmark_distributed(self, num_iter: int, warmup: int = 10) -> None:
        """Time loaders in all processes at once, and how long the first batch takes."""
        scale = max(self.num_workers, 1)
        timer = Timer()
        batches = iter(self._loader(MapDataset(self.dataset, self.mapper), self.num_workers))
        next(batches)
        logger.info("First batch after %.2f seconds", timer.seconds())
        comm.synchronize()
        average, times = self._benchmark(batches, num_iter * scale, warmup * scale)
        name = f"{comm.get_world_size()} processes with {self.num_workers} workers each"
        self._log_time(f"{name}, batches of {self.total_batch_size}", average, times, True)
