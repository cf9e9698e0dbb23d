"""From an entry's config path and overrides to a config and a model."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn


def load_config(path: str, overrides: Mapping[str, Any] | Sequence[str] = ()) -> Any:
    """Return the config at a path of detectron2's repository (``configs/...``, ``projects/...``).

    Args:
        path: a YAML path, or a ``.py`` one for a lazy config.
        overrides: dotted keys and values for YAML, ``key=value`` strings for lazy configs.
    """
    if path.startswith("projects/"):
        from retinue.projects import get_config  # configs of projects live with their code

        cfg = get_config(path)
    else:
        from retinue import model_zoo

        cfg = model_zoo.get_config(path.removeprefix("configs/"))
    if path.endswith(".py"):
        from retinue.config import LazyConfig

        return LazyConfig.apply_overrides(cfg, list(overrides))
    cfg.merge_from_list([part for pair in dict(overrides).items() for part in pair])
    return cfg


def build(path: str, overrides: Mapping[str, Any] | Sequence[str] = (), device: str = "cpu") -> Any:
    """Return (model, config); on the meta device the model has shapes and no values."""
    import torch

    cfg = load_config(path, overrides)
    with torch.device(device):
        model: nn.Module
        if path.endswith(".py"):
            from retinue.config import instantiate

            model = instantiate(cfg.model)
        else:
            from retinue.modeling import build_model

            cfg.MODEL.DEVICE = device
            model = build_model(cfg)
    return model, cfg
