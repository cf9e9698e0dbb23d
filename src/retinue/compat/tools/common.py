"""What the tools share: reading configs, building the model and its test data."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import nn

from retinue import model_zoo
from retinue.checkpoint import DetectionCheckpointer
from retinue.config import CfgNode, LazyConfig, instantiate
from retinue.data import build_detection_test_loader
from retinue.engine import default_argument_parser, default_setup, launch
from retinue.modeling import build_model
from retinue.projects.files import read_config as read_yaml
from retinue.utils.errors import InputError

__all__ = [
    "build",
    "launch_with",
    "load_weights",
    "parser_with_example",
    "read_config",
    "repeat",
    "set_up",
    "test_loader",
]


def parser_with_example(options: str) -> argparse.ArgumentParser:
    """Make the parser of training scripts, with an example of a tool's own."""
    return default_argument_parser(epilog=f"example:\n  {sys.argv[0]} {options}\n")


def config_file_of(name: str) -> str:
    """Return a config file's path; a name of the zoo will do, too."""
    return name if os.path.exists(name) else model_zoo.get_config_file(name)


def read_config(args: argparse.Namespace, *keys_and_values: Any) -> Any:
    """Read ``--config-file``: a ``CfgNode`` from YAML, a lazy config from a ``.py`` file.

    YAML may have the keys of one of detectron2's projects.

    Args:
        args: with ``config_file`` and ``opts``, the overrides.
        keys_and_values: overrides of a ``CfgNode`` that the user's come after.

    Raises:
        InputError: If no file is named.
    """
    if not args.config_file:
        raise InputError("--config-file: expected a config file or a name of the zoo; got nothing")
    path = config_file_of(args.config_file)
    if path.endswith(".py"):
        return LazyConfig.apply_overrides(LazyConfig.load(path), args.opts or [])
    cfg: Any = read_yaml(path)
    cfg.merge_from_list(list(keys_and_values))
    cfg.merge_from_list(args.opts or [])
    cfg.freeze()
    return cfg


def set_up(cfg: Any, args: argparse.Namespace) -> None:
    """Do ``default_setup``, which logs the config file's text; a name of the zoo will do, too."""
    path = config_file_of(args.config_file)
    default_setup(cfg, argparse.Namespace(**vars(args) | {"config_file": path}))


def build(cfg: Any) -> nn.Module:
    """Build the model of either kind of config, where it says."""
    if isinstance(cfg, CfgNode):
        return build_model(cfg)
    model: nn.Module = instantiate(cfg.model)
    return model.to(cfg.train.device if torch.cuda.is_available() else "cpu")


def load_weights(cfg: Any, model: nn.Module) -> None:
    """Load the weights that a config names."""
    path = cfg.MODEL.WEIGHTS if isinstance(cfg, CfgNode) else cfg.train.init_checkpoint
    DetectionCheckpointer(model).load(path)


def test_loader(cfg: Any) -> Iterable[Any]:
    """Make the loader of the first test set."""
    if not isinstance(cfg, CfgNode):
        loader: Iterable[Any] = instantiate(cfg.dataloader.test)
        return loader
    if not cfg.DATASETS.TEST:
        raise InputError("DATASETS.TEST names no dataset; give one: DATASETS.TEST \"('name',)\"")
    return build_detection_test_loader(cfg, cfg.DATASETS.TEST[0])


def repeat(batches: list[Any]) -> Iterator[Any]:
    """Yield the same batches for ever."""
    while True:
        yield from batches


def launch_with(main: Callable[[argparse.Namespace], Any], args: argparse.Namespace) -> None:
    """Run ``main(args)`` in as many processes as the command line says."""
    launch(
        main,
        args.num_gpus,
        num_machines=args.num_machines,
        machine_rank=args.machine_rank,
        dist_url=args.dist_url,
        args=(args,),
    )
