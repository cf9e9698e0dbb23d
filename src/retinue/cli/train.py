"""``retinue train``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from retinue.cli.common import Device, NumGPUs, Opts, Weights, check_opts, check_pair

_OPTIONS = (
    "--config", "--model", "--train", "--val", "--output", "--epochs", "--batch-size", "--weights",
    "--resume", "--overwrite", "--device", "--num-gpus", "--config-file", "--eval-only",
    "--num-machines", "--machine-rank", "--dist-url", "--help",
)  # fmt: skip
_DETECTRON2 = "As detectron2's train_net.py"


def train(
    opts: Opts = None,
    config: Annotated[
        str | None,
        typer.Option(
            "--config",
            "--model",
            help="The model: a name of the zoo such as mask_rcnn_R_50_FPN_3x, a config file, or the"
            " folder of a run.",
        ),
    ] = None,
    data: Annotated[
        tuple[Path, Path] | None,
        typer.Option("--train", metavar="JSON IMAGES", help="COCO annotations, and their images."),
    ] = None,
    val: Annotated[
        tuple[Path, Path] | None,
        typer.Option(metavar="JSON IMAGES", help="Held-out annotations and images to evaluate on."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder for checkpoints, metrics, log and report.")
    ] = None,
    epochs: Annotated[
        float | None, typer.Option(help="Passes over the data; 12 to 100 by default, by its size.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Images a step, all GPUs together; 2 a GPU by default.")
    ] = None,
    weights: Weights = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the run stopped.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Let a run that is in the folder go.")
    ] = False,
    device: Device = None,
    num_gpus: NumGPUs = 1,
    config_file: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=_DETECTRON2,
            help="Train what this config file says, data and schedule included.",
        ),
    ] = None,
    eval_only: Annotated[
        bool,
        typer.Option("--eval-only", rich_help_panel=_DETECTRON2, help="Evaluate, don't train."),
    ] = False,
    num_machines: Annotated[
        int, typer.Option(rich_help_panel=_DETECTRON2, help="Machines that take part.")
    ] = 1,
    machine_rank: Annotated[
        int, typer.Option(rich_help_panel=_DETECTRON2, help="Number of this machine.")
    ] = 0,
    dist_url: Annotated[
        str, typer.Option(rich_help_panel=_DETECTRON2, help="Where the processes meet.")
    ] = "auto",
) -> None:
    """Train a model on your own data.

    Classes, heads and schedule follow from the data, which is checked first. For example:

    retinue train --config COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x --train ann.json images/
    --val val.json images/ --output out SOLVER.BASE_LR 0.001
    """
    from retinue.utils.errors import InputError

    if config_file is not None and data is None:
        _train_net(
            config_file, resume, eval_only, num_gpus, num_machines, machine_rank, dist_url, opts
        )
        return
    check_pair("--train", data)
    check_pair("--val", val)
    words = check_opts(opts, _OPTIONS)
    if eval_only:
        raise InputError("--eval-only goes with --config-file; otherwise use `retinue eval`")
    if config is None and config_file is None:
        raise InputError(
            "which model? --config NAME, such as mask_rcnn_R_50_FPN_3x, or a config file"
        )
    from retinue.engine.api import train as run

    print(
        run(
            config or config_file,
            data,
            val,
            output=output or "output/train",
            epochs=epochs,
            batch_size=batch_size,
            weights=weights,
            resume=resume,
            overwrite=overwrite,
            device=device,
            num_gpus=num_gpus,
            opts=words,
        )
    )


def _train_net(
    config_file: str,
    resume: bool,
    eval_only: bool,
    num_gpus: int,
    num_machines: int,
    machine_rank: int,
    dist_url: str,
    opts: list[str] | None,
) -> None:
    """Do as detectron2's ``tools/train_net.py``."""
    import argparse

    from retinue.engine.runs import run_train_net
    from retinue.projects.files import expect_no_project

    expect_no_project(config_file)
    run_train_net(
        argparse.Namespace(
            config_file=config_file,
            resume=resume,
            eval_only=eval_only,
            num_gpus=num_gpus,
            num_machines=num_machines,
            machine_rank=machine_rank,
            dist_url=dist_url,
            opts=check_opts(opts, _OPTIONS),
        )
    )
