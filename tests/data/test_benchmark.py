import logging
from itertools import count

import pytest

from retinue.data.benchmark import DataLoaderBenchmark, iter_benchmark


def test_steps_are_timed():
    average, times = iter_benchmark(count(), 20, warmup=2)
    assert len(times) == 20
    assert average == pytest.approx(sum(times) / 20)
    assert len(iter_benchmark(count(), 10**9, max_time_seconds=0.01)[1]) < 10**9


def test_all_parts_of_a_loader(caplog):
    bench = DataLoaderBenchmark(
        [{"width": 2, "height": 1}] * 5, mapper=dict, total_batch_size=2, max_time_seconds=1
    )
    with caplog.at_level(logging.INFO):
        bench.benchmark_dataset(3)
        bench.benchmark_mapper(3)
        bench.benchmark_IPC(3)
        bench.benchmark_distributed(3)
    for text in ("dataset alone", "mapper in one process", "nothing sent", "rank 0, 1 processes"):
        assert text in caplog.text
    assert bench.per_gpu_batch_size == 2


@pytest.mark.slow
def test_workers_of_a_loader(caplog):
    bench = DataLoaderBenchmark([1, 2, 3], mapper=abs, total_batch_size=2)
    with caplog.at_level(logging.INFO):
        bench.benchmark_workers(2, warmup=1)
    assert "loader with 1 workers, batches of 2" in caplog.text
