"""Pictures of what the model is trained on, beside what it predicts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from retinue.engine.loop import HookBase
from retinue.engine.parallel import gathered
from retinue.utils import comm
from retinue.utils.events import EventStorage

__all__ = ["TrainingPictures"]


class TrainingPictures(HookBase):
    """Puts a picture into the storage now and then, for writers that show pictures.

    On the left the first image of the batch as the model gets it, with its annotations; on the
    right the model's best predictions for it. Register it in the main process; in all processes if
    the model is spread over them.

    Args:
        period: iterations between pictures.
        input_format: channel order of the model's images.
    """

    def __init__(self, period: int, input_format: str = "BGR") -> None:
        self._period = period
        self._input_format = input_format

    def after_step(self) -> None:
        if (self.trainer.iter + 1) % self._period:
            return
        inner = getattr(self.trainer, "_trainer", self.trainer)
        with gathered(inner.model):
            sample = _first_sample(inner.batches) if comm.is_main_process() else None
            if sample is not None:
                picture = self.draw(inner.model, sample)
                name = "left: annotations; right: predictions"
                self.trainer.storage.put_image(name, picture.transpose(2, 0, 1))

    def draw(self, model: nn.Module, sample: Mapping[str, Any]) -> np.ndarray:
        """Draw annotations and predictions of a sample; ``(H, 2 W, 3)`` uint8, RGB."""
        from retinue.visualization.training import draw_beside

        predicted = _predict(getattr(model, "module", model), sample)
        return draw_beside(sample, predicted, self._input_format)


def _first_sample(batches: list[Any]) -> Mapping[str, Any] | None:
    samples = batches[0] if batches and isinstance(batches[0], list | tuple) else ()
    sample = samples[0] if samples else None
    return sample if isinstance(sample, dict) and "image" in sample else None


def _predict(model: nn.Module, sample: Mapping[str, Any]) -> Any:
    """Predict in the sample's own size, and leave model and random numbers as they were."""
    size = {"height": sample["image"].shape[1], "width": sample["image"].shape[2]}
    model.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(), EventStorage():
            output = model([{**sample, **size}])[0]
    finally:
        model.train()
    return output.get("instances", output.get("proposals"))
