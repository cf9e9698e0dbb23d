"""Train or evaluate a config of a project.

    python -m retinue.projects.train --config-file PATH [KEY VALUE ...]

PATH is a published config, ``projects/<Project>/configs/<name>.yaml``, see ``zoo``, or a file of
one's own with the keys of a project, see ``files``; the rest of the command line is that of
detectron2's ``train_net.py``: ``--num-gpus``, ``--eval-only``, ``--resume``, ... Lazy configs,
``.py``, are trained by ``retinue run lazyconfig_train_net``.
"""

import argparse
import importlib
import sys
from typing import Any

from retinue.engine import default_argument_parser, default_setup, launch
from retinue.utils.errors import InputError, UnknownNameError
from retinue.utils.file_io import PathManager

__all__ = ["main", "run"]


def run(args: Any) -> dict[str, Any]:
    """Train, or evaluate, in one process of several.

    Raises:
        InputError: If the config is Python, whose project brings no trainer, or for no project.
    """
    from retinue.checkpoint import DetectionCheckpointer
    from retinue.projects import zoo
    from retinue.projects.files import project_of, read_config

    path = args.config_file
    if path.endswith(".py"):
        raise InputError(
            f"projects.train: expected a config that ends in .yaml; got {path!r}, a"
            f" lazy config; train it by `retinue run lazyconfig_train_net --config-file {path}`"
        )
    cfg: Any = read_config(path)
    project = project_of(path)
    if project is None:
        raise InputError(
            f"projects.train: {path} is for detectron2 itself, not for one of"
            f" {', '.join(zoo.PROJECTS)}; train it by `retinue run train_net --config-file {path}`"
        )
    cfg.merge_from_list(args.opts)
    cfg.freeze()
    # What is logged of the command line has a file that can be read.
    file = path if PathManager.isfile(path) else zoo.get_config_file(path)
    default_setup(cfg, argparse.Namespace(**vars(args) | {"config_file": file}))
    module = f"retinue.projects.{zoo.PROJECTS[project]}.training"
    trainer_class = importlib.import_module(module).Trainer
    if args.eval_only:
        model = trainer_class.build_model(cfg)
        checkpointer = DetectionCheckpointer(model, save_dir=cfg.OUTPUT_DIR)
        checkpointer.resume_or_load(cfg.MODEL.WEIGHTS, resume=args.resume)
        return dict(trainer_class.test(cfg, model))
    trainer = trainer_class(cfg)
    trainer.resume_or_load(resume=args.resume)
    return dict(trainer.train() or {})


def main(argv: list[str] | None = None) -> Any:
    """Start :func:`run` in as many processes as the command line asks for."""
    args = default_argument_parser().parse_args(argv)
    return launch(
        run, args.num_gpus, args.num_machines, args.machine_rank, args.dist_url, args=(args,)
    )


if __name__ == "__main__":
    try:
        main()
    except (InputError, UnknownNameError, OSError) as error:  # what the user can mend
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
