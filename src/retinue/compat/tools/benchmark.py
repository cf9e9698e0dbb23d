"""``retinue run benchmark --task train | eval | data | data_advanced``: how long things take.

Training and inference are timed on batches that are in memory already.
"""

from __future__ import annotations

import argparse
import itertools
import logging
from typing import Any

import torch

from retinue.compat.tools.common import (
    build,
    launch_with,
    load_weights,
    parser_with_example,
    read_config,
    repeat,
    test_loader,
)
from retinue.config import CfgNode, instantiate
from retinue.data import build_detection_train_loader
from retinue.data.benchmark import DataLoaderBenchmark
from retinue.engine import AMPTrainer, SimpleTrainer, hooks
from retinue.engine.defaults import create_ddp_model
from retinue.solver import build_optimizer
from retinue.utils import comm
from retinue.utils.collect_env import collect_env_info
from retinue.utils.errors import InputError
from retinue.utils.events import CommonMetricPrinter
from retinue.utils.logger import setup_logger
from retinue.utils.timer import Timer

__all__ = ["main"]

logger = logging.getLogger("retinue")  # as scripts for detectron2 log
_NUM_BATCHES = 100
_LOW_RATE = ("SOLVER.BASE_LR", 0.001)  # so that an untrained model stays finite


def _data_benchmark(args: argparse.Namespace) -> DataLoaderBenchmark:
    cfg = read_config(args)
    if not isinstance(cfg, CfgNode):
        loader = cfg.dataloader.train
        loader._target_ = DataLoaderBenchmark
        benchmark: DataLoaderBenchmark = instantiate(loader)
        return benchmark
    options = build_detection_train_loader.from_config(cfg)
    names = ("dataset", "mapper", "sampler", "total_batch_size", "num_workers")
    return DataLoaderBenchmark(**{name: options[name] for name in names if name in options})


def _data(args: argparse.Namespace) -> None:
    benchmark = _data_benchmark(args)
    benchmark.benchmark_distributed(args.iters or 250, 10)
    for number in range(10 if args.iters is None else 1):
        logger.info("Round %d", number + 1)
        benchmark.benchmark_distributed(args.iters or 250, 1)


def _data_advanced(args: argparse.Namespace) -> None:
    benchmark = _data_benchmark(args)
    num = args.iters or 100
    if comm.is_main_process():
        benchmark.benchmark_dataset(num)
        benchmark.benchmark_mapper(num)
        benchmark.benchmark_workers(num)
        benchmark.benchmark_IPC(num)
    if comm.get_world_size() > 1:
        for _ in range(2):
            benchmark.benchmark_distributed(num)


def _train(args: argparse.Namespace) -> None:
    cfg = read_config(args, *_LOW_RATE, "DATALOADER.NUM_WORKERS", 2)
    if not isinstance(cfg, CfgNode):
        raise InputError("--task train: expected a YAML config; got a lazy one")
    model = create_ddp_model(build(cfg), broadcast_buffers=False)
    optimizer = build_optimizer(cfg, model)
    load_weights(cfg, model)
    num = args.iters or 400
    batches = list(itertools.islice(build_detection_train_loader(cfg), min(_NUM_BATCHES, num)))
    kind = AMPTrainer if cfg.SOLVER.AMP.ENABLED else SimpleTrainer
    trainer = kind(model, repeat(batches), optimizer)
    profiler = hooks.TorchProfiler(
        lambda t: t.iter == num - 1, cfg.OUTPUT_DIR, save_tensorboard=False
    )
    writer = hooks.PeriodicWriter([CommonMetricPrinter(num)])
    trainer.register_hooks([hooks.IterationTimer(), writer, profiler])
    trainer.train(0, num)


@torch.no_grad()
def _eval(args: argparse.Namespace) -> None:
    cfg = read_config(args, *_LOW_RATE, "DATALOADER.NUM_WORKERS", 0)
    model = build(cfg).eval()
    load_weights(cfg, model)
    if not isinstance(cfg, CfgNode):
        cfg.dataloader.test.num_workers = 0
    num = args.iters or 300
    batches: list[Any] = list(itertools.islice(test_loader(cfg), min(_NUM_BATCHES, num)))
    for batch in itertools.islice(repeat(batches), 5):
        model(batch)
    timer = Timer()
    for batch in itertools.islice(repeat(batches), num):
        model(batch)
    seconds = timer.seconds()
    logger.info("%d iters in %.2f seconds, %.4f s / it", num, seconds, seconds / num)


_TASKS = {"train": _train, "eval": _eval, "data": _data, "data_advanced": _data_advanced}


def _run(args: argparse.Namespace) -> None:
    setup_logger(distributed_rank=comm.get_rank())
    _TASKS[args.task](args)


def main() -> None:
    """Run the command line."""
    parser = parser_with_example("--task eval --config-file cfg.yaml MODEL.WEIGHTS weights.pth")
    parser.add_argument("--task", choices=list(_TASKS), required=True, help="what to time")
    parser.add_argument("--iters", type=int, help="steps to time; a few hundred by default")
    args = parser.parse_args()
    if args.eval_only or (args.task == "eval" and args.num_gpus * args.num_machines != 1):
        raise InputError("benchmark: inference is timed in one process, by --task eval")
    setup_logger()
    logger.info("Environment:\n%s", collect_env_info())
    launch_with(_run, args)
