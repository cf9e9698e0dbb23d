"""The beginning of a job: its command line, its folder, its log, its seed.

Reading order: default_argument_parser, default_setup, check_output_folder.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
from typing import Any

import torch
from omegaconf import OmegaConf

from retinue.config import CfgNode, LazyConfig
from retinue.utils import comm
from retinue.utils.collect_env import collect_env_info
from retinue.utils.env import seed_all_rng
from retinue.utils.file_io import PathManager, atomic_write
from retinue.utils.logger import setup_logger

__all__ = [
    "OutputFolderError",
    "check_output_folder",
    "default_argument_parser",
    "default_setup",
]


class OutputFolderError(OSError, ValueError):
    """A folder that can't be written to."""


def default_argument_parser(epilog: str | None = None) -> argparse.ArgumentParser:
    """Make the parser of a training script, with detectron2's flags.

    Args:
        epilog: printed below the help; examples by default.
    """
    script = sys.argv[0]
    parser = argparse.ArgumentParser(
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=epilog
        or f"""examples:
  {script} --config-file cfg.yaml --num-gpus 8
  {script} --config-file cfg.yaml SOLVER.BASE_LR 0.001 MODEL.WEIGHTS weights.pth
  {script} --config-file cfg.py optimizer.lr=0.001

  two machines, the first of which has the address 10.0.0.1:
  {script} --num-machines 2 --machine-rank 0 --dist-url tcp://10.0.0.1:29500 ...
  {script} --num-machines 2 --machine-rank 1 --dist-url tcp://10.0.0.1:29500 ...
""",
    )
    add = parser.add_argument
    add("--config-file", default="", metavar="FILE", help="a YAML config or a lazy config (.py)")
    add("--resume", action="store_true", help="go on from OUTPUT_DIR's last checkpoint, if any")
    add("--eval-only", action="store_true", help="evaluate MODEL.WEIGHTS, don't train")
    add("--num-gpus", type=int, default=1, help="GPUs of each machine to use")
    add("--num-machines", type=int, default=1, help="machines that take part")
    add("--machine-rank", type=int, default=0, help="number of this machine, from 0")
    # A port of the user's own, always the same: a job that lives on shows by its being taken.
    user = os.getuid() if hasattr(os, "getuid") else 1
    port = 2**15 + 2**14 + hash(user) % 2**14
    add("--dist-url", default=f"tcp://127.0.0.1:{port}", help="where processes meet")
    add(
        "opts",
        nargs=argparse.REMAINDER,
        default=None,
        help="config keys and their values at the end: KEY VALUE pairs for YAML configs,"
        " key=value for lazy configs",
    )
    return parser


def default_setup(cfg: Any, args: Any) -> None:
    """Prepare a job: folder, log, seed, and a copy of the config in ``OUTPUT_DIR/config.yaml``.

    Args:
        cfg: a ``CfgNode`` or a lazy config.
        args: the parsed command line, for the log.

    Raises:
        OutputFolderError: (an ``OSError``) If the folder can't be written to.
    """
    output_dir = _try_get_key(cfg, "OUTPUT_DIR", "output_dir", "train.output_dir")
    rank = comm.get_rank()
    if comm.is_main_process() and output_dir:
        check_output_folder(output_dir)
    comm.synchronize()  # the folder is there for all

    for name in ("fvcore", "detectron2"):  # code written for detectron2 logs under its name
        setup_logger(output_dir, distributed_rank=rank, name=name)
    logger = setup_logger(output_dir, distributed_rank=rank)
    logger.info("Rank of current process: %d. World size: %d", rank, comm.get_world_size())
    logger.info("Environment info:\n%s", collect_env_info())
    logger.info("Command line arguments: %s", args)
    config_file = getattr(args, "config_file", "")
    if config_file:
        with PathManager.open(config_file, "r") as file:
            logger.info("Contents of args.config_file=%s:\n%s", config_file, file.read())

    if comm.is_main_process() and output_dir:
        path = os.path.join(output_dir, "config.yaml")
        if isinstance(cfg, CfgNode):
            text = cfg.dump()
            logger.info("Running with full config:\n%s", text)
            with atomic_write(path, "w") as file:
                file.write(text)
        else:
            LazyConfig.save(cfg, path)
        logger.info("Full config saved to %s", path)

    seed = _try_get_key(cfg, "SEED", "train.seed", default=-1)
    seed_all_rng(None if seed < 0 else seed + rank)
    _set_speed(cfg, args, logger)


def _set_speed(cfg: Any, args: Any, logger: logging.Logger) -> None:
    if not getattr(args, "eval_only", False):  # trying kernels out takes longer than few images
        benchmark = _try_get_key(cfg, "CUDNN_BENCHMARK", "train.cudnn_benchmark", default=False)
        torch.backends.cudnn.benchmark = benchmark
    precision = _try_get_key(cfg, "FLOAT32_PRECISION", "train.float32_precision", default="")
    if precision and torch.cuda.is_available():
        logger.info("float32 matrix products and convolutions have precision %r", precision)
        torch.set_float32_matmul_precision(precision)
        torch.backends.cudnn.allow_tf32 = precision != "highest"


def check_output_folder(path: str) -> None:
    """Make a folder, and check that files can be written to it.

    Raises:
        OutputFolderError: If not.
    """
    try:
        PathManager.mkdirs(path)
        if "://" not in path:
            with tempfile.NamedTemporaryFile(dir=path, prefix=".writable-"):
                pass
    except (FileExistsError, NotADirectoryError) as error:
        raise OutputFolderError(
            f"OUTPUT_DIR {path!r}: a file is in its place; choose another folder"
        ) from error
    except OSError as error:
        raise OutputFolderError(
            f"OUTPUT_DIR {path!r}: can't be written to ({error.strerror or error});"
            " choose another folder, or change its permissions"
        ) from error


def _try_get_key(cfg: Any, *keys: str, default: Any = None) -> Any:
    """Return the value of the first of the dotted ``keys`` that a config of either kind has."""
    for key in keys:
        node = cfg
        if isinstance(cfg, CfgNode):
            for part in key.split("."):
                node = node.get(part) if isinstance(node, dict) and part in node else None
        else:
            node = OmegaConf.select(cfg, key, default=None)
        if node is not None:
            return node
    return default


def _highlight(code: str, filename: str) -> str:
    """Colour source text for the terminal, if pygments is installed."""
    try:
        from pygments import highlight, lexers
        from pygments.formatters import Terminal256Formatter
    except ImportError:
        return code
    lexer = lexers.PythonLexer() if filename.endswith(".py") else lexers.YamlLexer()
    return str(highlight(code, lexer, Terminal256Formatter(style="monokai")))
