"""Averages of a model's weights over training, which often detect a little better.

``WeightAverage`` keeps them; ``prefer_averages`` takes them where a trained model is loaded.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from retinue.checkpoint.reader import has_averages, local_copy, split_query
from retinue.checkpoint.sharded import cut_as, own_part
from retinue.engine.loop import HookBase
from retinue.utils.download import without_secrets
from retinue.utils.errors import InputError

__all__ = ["WeightAverage", "prefer_averages"]

logger = logging.getLogger(__name__)


class WeightAverage(HookBase):
    """Keeps an exponential moving average of weights and buffers.

    ``average = decay * average + (1 - decay) * weights`` after each step (Polyak and Juditsky,
    1992). Register it before the hook that saves, and give it to the checkpointer as
    ``model_ema``: ``?weights=ema`` behind a checkpoint's path loads the average then.

    Args:
        model: in training; of a wrapped one, the inner module.
        decay: between 0 and 1, such as 0.999.

    Attributes:
        model: a copy of the model with averaged weights, in evaluation mode.

    Raises:
        InputError: If ``decay`` is not between 0 and 1.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        if not 0 < decay < 1:
            raise InputError(f"WeightAverage: decay must be between 0 and 1; got {decay}")
        self._source = model
        update = get_ema_multi_avg_fn(decay)

        def update_parts(averages: Any, values: Any, num_averaged: Any) -> None:
            """Average what this process has: buffers are whole, weights may be parts."""
            update(list(map(own_part, averages)), list(map(own_part, values)), num_averaged)

        self._averaged = AveragedModel(model, multi_avg_fn=update_parts, use_buffers=True)
        self._averaged.eval()

    @property
    def model(self) -> nn.Module:
        return self._averaged.module

    def after_step(self) -> None:
        self._averaged.update_parameters(self._source)

    def state_dict(self) -> dict[str, Any]:
        """Return nothing for the trainer; the checkpointer has it by ``as_checkpointable``."""
        return {}

    def as_checkpointable(self) -> _State:
        """Return what a checkpointer saves and loads."""
        return _State(self._averaged)


class _State:
    def __init__(self, averaged: AveragedModel) -> None:
        self._averaged = averaged

    def state_dict(self) -> dict[str, Any]:
        averaged = self._averaged
        return {"module": averaged.module.state_dict(), "n_averaged": int(averaged.n_averaged)}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        weights = state_dict["module"]
        cut_as(self._averaged.module.state_dict(), weights)
        self._averaged.module.load_state_dict(weights)
        self._averaged.n_averaged.copy_(torch.tensor(state_dict["n_averaged"]))


def prefer_averages(path: str) -> str:
    """Ask for a checkpoint's averaged weights, if the run that wrote it kept and evaluated some.

    Args:
        path: of a checkpoint, on this machine or elsewhere; it may be empty.

    Returns:
        The path with ``?weights=ema`` behind it; as it came if there are none, or if it says
        itself which weights are meant: ``?weights=model`` for those that were trained.
    """
    plain, asked = split_query(path)
    if not plain or "weights" in asked:
        return path
    if "://" in plain:
        plain = local_copy(plain)
    if not has_averages(plain):
        return path
    logger.info(
        "%s: taking the averaged weights, as its evaluation did; ?weights=model behind the path"
        " takes those that were trained",
        without_secrets(path),
    )
    return f"{path}{'&' if asked else '?'}weights=ema"
