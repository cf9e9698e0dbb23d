"""Train or evaluate a published config of a project.

    python -m retinue.projects.train --config-file PATH [KEY VALUE ...]

PATH is ``projects/<Project>/configs/<name>.yaml``, see ``zoo``; the rest of the command line is
that of detectron2's ``train_net.py``: ``--num-gpus``, ``--eval-only``, ``--resume``, ... Lazy
configs, ``.py``, are trained by ``retinue run lazyconfig_train_net``.
"""

import argparse
import importlib
from typing import Any

from retinue.engine import default_argument_parser, default_setup, launch
from retinue.utils.errors import InputError

__all__ = ["main", "run"]


def run(args: Any) -> dict[str, Any]:
    """Train, or evaluate, in one process of several.

    Raises:
        InputError: If the config is Python: its project brings no trainer.
    """
    from retinue.checkpoint import DetectionCheckpointer
    from retinue.projects import zoo

    if args.config_file.endswith(".py"):
        raise InputError(
            f"projects.train: expected a config that ends in .yaml; got {args.config_file!r}, a"
            " lazy config; train it by `retinue run lazyconfig_train_net --config-file"
            f" {args.config_file}`"
        )
    cfg: Any = zoo.get_config(args.config_file)
    cfg.merge_from_list(args.opts)
    cfg.freeze()
    # What is logged of the command line has the file with the merged config, which can be read.
    file = zoo.get_config_file(args.config_file)
    default_setup(cfg, argparse.Namespace(**vars(args) | {"config_file": file}))
    trainer_class = importlib.import_module(f"{zoo.package_of(args.config_file)}.training").Trainer
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
    main()
