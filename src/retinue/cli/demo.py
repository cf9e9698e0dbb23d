"""``retinue demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from retinue.utils.errors import InputError


def demo(
    output: Annotated[
        Path, typer.Option(help="Folder for data, checkpoints, metrics and report.")
    ] = Path("output/demo"),
    iterations: Annotated[
        int | None, typer.Option(min=1, help="Training iterations; as configured by default.")
    ] = None,
    save_weights: Annotated[
        Path | None,
        typer.Option(help="Also write the trained model, as small as it gets, to this folder."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the data and of the training.")] = 0,
) -> None:
    """Train and evaluate a small Mask R-CNN on generated pictures, in a few minutes on a CPU."""
    if save_weights is not None and not save_weights.parent.is_dir():
        raise InputError(f"--save-weights: folder {str(save_weights.parent)!r} does not exist")
    from retinue.engine.demo import run_demo

    run = run_demo(output, iterations=iterations, seed=seed)
    if save_weights is not None:
        run.detector.save(save_weights, half=True)
        print(f"trained model: {save_weights}")
    print(f"try it: retinue predict {output / 'sample.jpg'} --model {output}")
    print(run)
