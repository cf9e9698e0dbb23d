"""``retinue run lazyconfig_train_net``: train or evaluate what a lazy config builds.

The config has ``model``, ``optimizer``, ``lr_multiplier``, ``dataloader.{train,test,evaluator}``
and ``train``, as those in ``retinue.model_zoo.configs``.
"""

from __future__ import annotations

import argparse
import logging
from typing import Any

from torch import nn

from retinue.checkpoint import DetectionCheckpointer
from retinue.compat.tools.common import (
    build,
    launch_with,
    load_weights,
    parser_with_example,
    read_config,
    set_up,
)
from retinue.config import CfgNode, instantiate
from retinue.engine import (
    AMPTrainer,
    SimpleTrainer,
    default_writers,
    hooks,
)
from retinue.engine.defaults import create_ddp_model
from retinue.evaluation import inference_on_dataset, print_csv_format
from retinue.utils import comm
from retinue.utils.errors import InputError

__all__ = ["evaluate", "main", "train"]

logger = logging.getLogger("retinue")  # as scripts for detectron2 log


def evaluate(cfg: Any, model: nn.Module) -> Any:
    """Evaluate on the config's test data, if it has an evaluator."""
    if "evaluator" not in cfg.dataloader:
        return None
    loader, evaluator = instantiate(cfg.dataloader.test), instantiate(cfg.dataloader.evaluator)
    results = inference_on_dataset(model, loader, evaluator)
    print_csv_format(results)
    return results


def train(cfg: Any, model: nn.Module, resume: bool) -> None:
    """Train to ``train.max_iter``."""
    cfg.optimizer.params.model = model
    optimizer = instantiate(cfg.optimizer)
    loader = instantiate(cfg.dataloader.train)
    model = create_ddp_model(model, **cfg.train.ddp)
    trainer = (AMPTrainer if cfg.train.amp.enabled else SimpleTrainer)(model, loader, optimizer)
    checkpointer = DetectionCheckpointer(model, cfg.train.output_dir, trainer=trainer)
    trainer.register_hooks(_hooks(cfg, model, checkpointer))
    checkpointer.resume_or_load(cfg.train.init_checkpoint, resume=resume)
    is_resumed = resume and checkpointer.has_checkpoint()
    trainer.train(trainer.iter + 1 if is_resumed else 0, cfg.train.max_iter)
    hooks.save_final_metrics(trainer)


def _hooks(cfg: Any, model: nn.Module, checkpointer: DetectionCheckpointer) -> list[Any]:
    train = cfg.train
    chosen: list[Any] = [
        hooks.IterationTimer(),
        hooks.LRScheduler(scheduler=instantiate(cfg.lr_multiplier)),
    ]
    if comm.is_main_process():
        chosen.append(hooks.PeriodicCheckpointer(checkpointer, **train.checkpointer))
    chosen.append(hooks.EvalHook(train.eval_period, lambda: evaluate(cfg, model)))
    if comm.is_main_process():
        writers = default_writers(train.output_dir, train.max_iter)
        chosen.append(hooks.PeriodicWriter(writers, period=train.log_period))
    return chosen


def run(args: argparse.Namespace) -> None:
    """Train or evaluate in one process of the job.

    Raises:
        InputError: If the config is a YAML file.
    """
    cfg = read_config(args)
    if isinstance(cfg, CfgNode):
        raise InputError(f"--config-file: expected a lazy config (.py); got {args.config_file!r}")
    set_up(cfg, args)
    model = build(cfg)
    if args.eval_only:
        load_weights(cfg, model)
        print(evaluate(cfg, create_ddp_model(model)))
        return
    logger.info("Model:\n%s", model)
    train(cfg, model, args.resume)


def main() -> None:
    """Run the command line."""
    parser = parser_with_example("--config-file cfg.py optimizer.lr=0.001")
    launch_with(run, parser.parse_args())
