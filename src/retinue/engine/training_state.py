"""What a model keeps between training steps beside its weights and buffers.

A module with such values, e.g. RetinaNet's running average of the number of objects, returns them
from ``training_state()`` and takes them back by ``load_training_state(state)``. They are saved with
the trainer and not in the state dict, whose names stay those of detectron2.

Random numbers need not be kept: ``seed_iteration`` draws those of an iteration from its number.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

__all__ = ["load_training_state", "seed_iteration", "training_state"]


def training_state(model: nn.Module) -> dict[str, dict[str, Any]]:
    """Return the values by module name; empty for most models."""
    found = {}
    for name, module in getattr(model, "module", model).named_modules():
        state = module.training_state() if hasattr(module, "training_state") else None
        if state:
            found[name] = {key: _detached(value) for key, value in state.items()}
    return found


def load_training_state(model: nn.Module, state: Mapping[str, Mapping[str, Any]]) -> None:
    """Give the values back to their modules; those of modules that are gone are left out."""
    modules: dict[str, Any] = dict(getattr(model, "module", model).named_modules())
    for name, values in state.items():
        if hasattr(modules.get(name), "load_training_state"):
            modules[name].load_training_state(values)


def _detached(value: Any) -> Any:
    return value.detach() if isinstance(value, torch.Tensor) else value


def seed_iteration(seed: int, rank: int, iteration: int) -> None:
    """Seed all generators for an iteration, so that a resumed run draws the same numbers."""
    words = np.random.SeedSequence([seed, rank, iteration]).generate_state(3)
    torch.manual_seed(int(words[0]))
    np.random.seed(words[1])  # noqa: NPY002 - the generator that models and hooks may use
    random.seed(int(words[2]))
