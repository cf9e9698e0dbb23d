"""The demo: the library's main job on pictures that it draws itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from retinue.data.datasets.shapes import write_sample, write_shapes
from retinue.engine.api import Run, train
from retinue.engine.model_source import DEMO, find_model
from retinue.engine.setup import check_output_folder

__all__ = ["NUM_TRAIN", "NUM_VAL", "run_demo"]

NUM_TRAIN = 1000
NUM_VAL = 100

# The model is so small that a second thread only waits for the first, and on a busy machine it
# makes training many times slower.
_NUM_THREADS = 1


def run_demo(
    output: str | Path = "output/demo",
    *,
    iterations: int | None = None,
    seed: int = 0,
    opts: Sequence[Any] = (),
    num_train: int = NUM_TRAIN,
    num_val: int = NUM_VAL,
) -> Run:
    """Draw shapes, train a small Mask R-CNN on them from scratch, evaluate it, write a report.

    Args:
        output: folder for everything; an earlier demo in it is replaced, its pictures are kept.
        iterations: of training; by default as configured. The schedule follows.
        seed: of the data and of the training.
        opts: config keys and values in turn.
        num_train: pictures to train on.
        num_val: held-out pictures.
    """
    output = Path(output)
    check_output_folder(str(output))
    print(f"Drawing {num_train} pictures to train on and {num_val} held-out ones ...", flush=True)
    data = write_shapes(output / "data", num_train=num_train, num_val=num_val, seed=seed)
    write_sample(output / "sample.jpg")
    config = DEMO / "mask_rcnn_shapes.yaml"
    epochs = None
    if iterations is not None:
        epochs = iterations * find_model(config).cfg.SOLVER.IMS_PER_BATCH / num_train
    threads = torch.get_num_threads()
    torch.set_num_threads(_NUM_THREADS)
    try:
        return train(
            config,
            (data.train_json, data.train_images),
            (data.val_json, data.val_images),
            output=output,
            epochs=epochs,
            overwrite=True,
            opts=["SEED", seed, *opts],
            title="retinue demo: Mask R-CNN on shapes",
            notes=["The checkpoint knows the six shapes of the demo and nothing else."],
        )
    finally:
        torch.set_num_threads(threads)
