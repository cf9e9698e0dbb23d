"""``retinue run plain_train_net``: a training loop without a trainer or hooks, to start from.

It trains by a config, saves checkpoints, writes metrics and evaluates. Changing what a step does
means changing ``train`` below.
"""

from __future__ import annotations

import argparse
import logging
import os
from typing import Any

import torch
from torch import nn

from retinue.checkpoint import DetectionCheckpointer, PeriodicCheckpointer
from retinue.compat.tools.common import (
    launch_with,
    parser_with_example,
    read_config,
    set_up,
)
from retinue.config import CfgNode
from retinue.data import build_detection_test_loader, build_detection_train_loader
from retinue.engine import default_writers
from retinue.engine.defaults import create_ddp_model
from retinue.engine.run_checks import check_evaluators
from retinue.engine.runs import Trainer
from retinue.evaluation import inference_on_dataset, print_csv_format
from retinue.modeling import build_model
from retinue.projects.files import expect_no_project
from retinue.solver import build_lr_scheduler, build_optimizer
from retinue.utils import comm
from retinue.utils.events import EventStorage

__all__ = ["evaluate", "main", "train"]

logger = logging.getLogger("retinue")  # as scripts for detectron2 log
_WRITE_PERIOD = 20  # iterations


def evaluate(cfg: CfgNode, model: nn.Module) -> dict[str, Any]:
    """Evaluate on each test set; the results of a single one are not named after it."""
    results: dict[str, Any] = {}
    for name in cfg.DATASETS.TEST:
        evaluator = Trainer.build_evaluator(
            cfg, name, os.path.join(cfg.OUTPUT_DIR, "inference", name)
        )
        loader = build_detection_test_loader(cfg, name)
        results[name] = inference_on_dataset(model, loader, evaluator)
        if comm.is_main_process():
            logger.info("Evaluation results for %s in csv format:", name)
            print_csv_format(results[name])
    return next(iter(results.values())) if len(results) == 1 else results


def train(cfg: CfgNode, model: nn.Module, resume: bool) -> None:
    """Train to ``SOLVER.MAX_ITER``."""
    check_evaluators(cfg, Trainer)
    optimizer = build_optimizer(cfg, model)
    scheduler = build_lr_scheduler(cfg, optimizer)
    checkpointer = DetectionCheckpointer(
        model, cfg.OUTPUT_DIR, optimizer=optimizer, scheduler=scheduler
    )
    loaded = checkpointer.resume_or_load(cfg.MODEL.WEIGHTS, resume=resume)
    start, end = loaded.get("iteration", -1) + 1, cfg.SOLVER.MAX_ITER
    saver = PeriodicCheckpointer(checkpointer, cfg.SOLVER.CHECKPOINT_PERIOD, max_iter=end)
    writers = default_writers(cfg.OUTPUT_DIR, end) if comm.is_main_process() else []
    batches = iter(build_detection_train_loader(cfg))

    logger.info("Starting training from iteration %d", start)
    with EventStorage(start) as storage:
        for iteration in range(start, end):
            storage.iter = iteration
            losses = model.train()(next(batches))
            total = torch.stack(list(losses.values())).sum()
            if not torch.isfinite(total):
                raise FloatingPointError(f"iteration {iteration}: losses are {losses}")
            optimizer.zero_grad()
            total.backward()
            optimizer.step()

            reduced = comm.reduce_dict({k: v.detach() for k, v in losses.items()})
            if comm.is_main_process():
                storage.put_scalar("total_loss", sum(reduced.values()))
                for name, loss in reduced.items():
                    storage.put_scalar(name, loss)
            rate = optimizer.param_groups[0]["lr"]
            storage.put_scalar("lr", rate, smoothing_hint=False)
            scheduler.step()

            is_last = iteration == end - 1
            period = cfg.TEST.EVAL_PERIOD
            if period > 0 and (iteration + 1) % period == 0 and not is_last:
                evaluate(cfg, model)
                comm.synchronize()
            if (iteration + 1) % _WRITE_PERIOD == 0 or is_last:
                for writer in writers:
                    writer.write()
            saver.step(iteration)
    for writer in writers:
        writer.close()


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Train and evaluate in one process of the job."""
    cfg = read_config(args)
    set_up(cfg, args)
    model = build_model(cfg)
    logger.info("Model:\n%s", model)
    if args.eval_only:
        checkpointer = DetectionCheckpointer(model, save_dir=cfg.OUTPUT_DIR)
        checkpointer.resume_or_load(cfg.MODEL.WEIGHTS, resume=args.resume)
    else:
        model = create_ddp_model(model, broadcast_buffers=False)
        train(cfg, model, args.resume)
    return evaluate(cfg, model)


def main() -> None:
    """Run the command line."""
    args = parser_with_example("--config-file cfg.yaml SOLVER.BASE_LR 0.001").parse_args()
    expect_no_project(args.config_file)
    launch_with(run, args)
