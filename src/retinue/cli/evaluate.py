"""``retinue eval``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from retinue.cli.common import Device, NumGPUs, Opts, Weights, check_opts, check_pair

_OPTIONS = ("--model", "--data", "--output", "--weights", "--device", "--num-gpus", "--help")


def evaluate(
    model: Annotated[
        str | None,
        typer.Argument(help="A name of the zoo, the folder of a run, a checkpoint, a config file."),
    ] = None,
    opts: Opts = None,
    same_model: Annotated[
        str | None, typer.Option("--model", help="The model, as an option.")
    ] = None,
    data: Annotated[
        tuple[Path, Path] | None,
        typer.Option(
            metavar="JSON IMAGES", help="COCO annotations, and the folder of their images."
        ),
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder for predictions, log and report.")] = Path(
        "output/eval"
    ),
    weights: Weights = None,
    device: Device = None,
    num_gpus: NumGPUs = 1,
) -> None:
    """Evaluate a model on annotated images, and write a report.

    Without --data, on the datasets that the model's config names.
    """
    from retinue.utils.errors import InputError

    check_pair("--data", data)
    if same_model is not None:  # what came first is not the model then
        model, opts = same_model, [*([model] if model else []), *(opts or [])]
    if model is None:
        raise InputError("which model? the folder of a run, a checkpoint, or a name of the zoo")
    words = check_opts(opts, _OPTIONS)
    from retinue.engine.api import evaluate as run

    print(
        run(
            model,
            data,
            output=output,
            weights=weights,
            device=device,
            num_gpus=num_gpus,
            opts=words,
        )
    )
