"""Published models by name.

A name is a path below detectron2's ``configs`` folder, such as
``"COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x"``; ``.yaml`` may be left out. Names ending in
``.py`` are lazy configs, names that begin with ``projects/`` belong to ``retinue.projects``.

Reading order: get_config_file finds the config of a name, get_config reads it, get builds it.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from retinue.model_zoo.entries import (
    LAZY_CONFIGS,
    WEIGHTS_PREFIX,
    UnknownModelError,
    lazy_names,
    stem_of,
)
from retinue.model_zoo.lazy_presets import LAZY_PRESETS
from retinue.model_zoo.presets import PRESETS
from retinue.utils.errors import UnknownNameError, unknown_name

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import nn

    from retinue.config import CfgNode

__all__ = ["build", "get", "get_checkpoint_url", "get_config", "get_config_file"]

PROJECTS = "projects/"


def _projects() -> ModuleType:
    """The zoo of projects, which live a floor above; looked up when one of them is asked for."""
    return importlib.import_module("retinue.projects.zoo")


def _unknown(name: str, known: list[str]) -> UnknownModelError:
    error = unknown_name("model", name, known, "`retinue zoo list` lists all", max_listed=0)
    return UnknownModelError(str(error))


def _of_project(function: str, name: str, *args: Any) -> Any:
    try:
        return getattr(_projects(), function)(name, *args)
    except UnknownNameError as error:
        raise UnknownModelError(str(error)) from None


def get_checkpoint_url(config_path: str) -> str:
    """Return the address of the trained weights of a published model.

    Raises:
        UnknownModelError: (a ``RuntimeError``) If no weights are published under that name.
    """
    if config_path.startswith(PROJECTS):
        return str(_of_project("get_checkpoint_url", config_path))
    stem, rows = stem_of(config_path), PRESETS | LAZY_PRESETS
    if stem not in rows or not rows[stem].weights:
        raise _unknown(config_path, [name for name, preset in rows.items() if preset.weights])
    return f"{WEIGHTS_PREFIX}{stem}/{rows[stem].weights}"


def get_config_file(config_path: str) -> str:
    """Return the path of a file with the config of a published model.

    A YAML config is written, merged, into the cache folder, so that a user's file can name it in
    ``_BASE_``.

    Raises:
        UnknownModelError: (a ``RuntimeError``) If there is no model of that name.
    """
    if config_path.startswith(PROJECTS):
        return str(_of_project("get_config_file", config_path))
    if config_path.endswith(".py"):
        path = LAZY_CONFIGS / config_path
        if not path.is_file():
            raise _unknown(config_path, lazy_names())
        return str(path)
    stem = stem_of(config_path)
    if stem not in PRESETS:
        raise _unknown(config_path, list(PRESETS) + lazy_names())
    return str(write_yaml(stem, PRESETS[stem].settings()))


def write_yaml(stem: str, settings: Mapping[str, Any]) -> Path:
    """Write flat config keys as a YAML file into the cache; return its path."""
    import yaml

    from retinue import __version__
    from retinue.utils.file_io import atomic_write, get_cache_dir

    tree: dict[str, Any] = {"VERSION": 2}
    for key, value in settings.items():
        *parents, leaf = key.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = list(value) if isinstance(value, tuple) else value
    text = yaml.safe_dump(tree, sort_keys=False)
    path = Path(get_cache_dir()) / "model_zoo" / __version__ / f"{stem}.yaml"
    if not path.is_file() or path.read_text() != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path, "w") as f:
            f.write(text)
    return path


def get_config(config_path: str, trained: bool = False) -> CfgNode | DictConfig:
    """Return the config of a published model.

    Args:
        config_path: the model's name; a lazy config if it ends in ``.py``.
        trained: let the config name the published weights instead of the ImageNet ones.

    Raises:
        UnknownModelError: (a ``RuntimeError``) If there is no such model, or no weights for it.
    """
    if config_path.startswith(PROJECTS):
        config: CfgNode | DictConfig = _of_project("get_config", config_path, trained)
        return config
    if config_path.endswith(".py"):
        from retinue.config import LazyConfig

        lazy = LazyConfig.load(get_config_file(config_path))
        if trained:
            lazy.train.init_checkpoint = get_checkpoint_url(config_path)
        return lazy

    from retinue.config import get_cfg

    stem = stem_of(config_path)
    if stem not in PRESETS:
        raise _unknown(config_path, list(PRESETS) + lazy_names())
    cfg = get_cfg()
    settings = PRESETS[stem].settings()
    cfg.merge_from_list([part for key_value in settings.items() for part in key_value])
    if trained:
        cfg.MODEL.WEIGHTS = get_checkpoint_url(config_path)
    return cfg


def build(config_path: str, *, device: str | None = None) -> nn.Module:
    """Build a published model with initial weights; on ``"meta"`` it has shapes and no values.

    Args:
        config_path: the model's name.
        device: where the model goes; by default where the config says, or the CPU without CUDA.

    Returns:
        The model, in training mode.

    Raises:
        UnknownModelError: (a ``RuntimeError``) If there is no such model.
    """
    return _build(get_config(config_path), device)


def _build(cfg: CfgNode | DictConfig, device: str | None) -> nn.Module:
    import torch

    from retinue.config import CfgNode, instantiate
    from retinue.modeling import build_model

    if device is None and not torch.cuda.is_available():
        device = "cpu"
    with torch.device("meta") if device == "meta" else contextlib.nullcontext():
        if isinstance(cfg, CfgNode):
            if device is not None:
                cfg.MODEL.DEVICE = device
            return build_model(cfg)
        model: nn.Module = instantiate(cfg.model)
        return model.to(device) if device is not None else model


def get(config_path: str, trained: bool = False, device: str | None = None) -> nn.Module:
    """Build a published model and load the weights that its config names.

    Args:
        config_path: the model's name.
        trained: load the published weights instead of the ImageNet ones.
        device: where the model goes; by default where the config says, or the CPU without CUDA.

    Returns:
        The model, in training mode.

    Raises:
        UnknownModelError: (a ``RuntimeError``) If there is no such model, or no weights for it.
    """
    from retinue.checkpoint import DetectionCheckpointer

    cfg = get_config(config_path, trained)
    model = _build(cfg, device)
    if config_path.endswith(".py"):
        weights = cfg.train.init_checkpoint if "train" in cfg else ""
    else:
        weights = cfg.MODEL.WEIGHTS
    if weights:
        DetectionCheckpointer(model).load(weights)
    return model
