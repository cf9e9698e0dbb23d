"""Published models by name.

A name is a path below detectron2's ``configs`` folder, such as
``"COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x"``; ``.yaml`` may be left out. Names ending in
``.py`` are lazy configs.

Reading order: get_config_file finds the config of a name, get_config reads it, get builds it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from retinue.model_zoo.presets import PRESETS
from retinue.utils.errors import UnknownNameError, unknown_name

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import nn

    from retinue.config import CfgNode

__all__ = ["get", "get_checkpoint_url", "get_config", "get_config_file"]

WEIGHTS_PREFIX = "https://dl.fbaipublicfiles.com/detectron2/"
LAZY_CONFIGS = Path(__file__).parent / "configs"

# Weights of lazy configs that have no YAML twin.
LAZY_WEIGHTS = {
    "new_baselines/mask_rcnn_R_50_FPN_100ep_LSJ": "42047764/model_final_bb69de.pkl",
    "new_baselines/mask_rcnn_R_50_FPN_200ep_LSJ": "42047638/model_final_89a8d3.pkl",
    "new_baselines/mask_rcnn_R_50_FPN_400ep_LSJ": "42019571/model_final_14d201.pkl",
    "new_baselines/mask_rcnn_R_101_FPN_100ep_LSJ": "42025812/model_final_4f7b58.pkl",
    "new_baselines/mask_rcnn_R_101_FPN_200ep_LSJ": "42131867/model_final_0bb7ae.pkl",
    "new_baselines/mask_rcnn_R_101_FPN_400ep_LSJ": "42073830/model_final_f96b26.pkl",
    "new_baselines/mask_rcnn_regnetx_4gf_dds_FPN_100ep_LSJ": "42047771/model_final_b7fbab.pkl",
    "new_baselines/mask_rcnn_regnetx_4gf_dds_FPN_200ep_LSJ": "42132721/model_final_5d87c1.pkl",
    "new_baselines/mask_rcnn_regnetx_4gf_dds_FPN_400ep_LSJ": "42025447/model_final_f1362d.pkl",
    "new_baselines/mask_rcnn_regnety_4gf_dds_FPN_100ep_LSJ": "42047784/model_final_6ba57e.pkl",
    "new_baselines/mask_rcnn_regnety_4gf_dds_FPN_200ep_LSJ": "42047642/model_final_27b9c1.pkl",
    "new_baselines/mask_rcnn_regnety_4gf_dds_FPN_400ep_LSJ": "42045954/model_final_ef3a80.pkl",
}


class UnknownModelError(UnknownNameError, RuntimeError):
    """No published model has that name; a ``RuntimeError``, as in detectron2."""


def _stem(name: str) -> str:
    return name.removesuffix(".yaml").removesuffix(".yml").removesuffix(".py")


def _lazy_names() -> list[str]:
    return sorted(p.relative_to(LAZY_CONFIGS).as_posix() for p in LAZY_CONFIGS.rglob("*.py"))


def _unknown(name: str, known: list[str]) -> UnknownModelError:
    error = unknown_name(
        "model", name, known, "detectron2's model zoo page lists all", max_listed=0
    )
    return UnknownModelError(str(error))


def get_checkpoint_url(config_path: str) -> str:
    """Return the address of the trained weights of a published model.

    Raises:
        UnknownModelError: (a ``RuntimeError``) If no weights are published under that name.
    """
    stem = _stem(config_path)
    weights = LAZY_WEIGHTS.get(stem) or (PRESETS[stem].weights if stem in PRESETS else "")
    if not weights:
        published = [n for n, preset in PRESETS.items() if preset.weights] + list(LAZY_WEIGHTS)
        raise _unknown(config_path, published)
    return f"{WEIGHTS_PREFIX}{stem}/{weights}"


def get_config_file(config_path: str) -> str:
    """Return the path of a file with the config of a published model.

    A YAML config is written, merged, into the cache folder, so that a user's file can name it in
    ``_BASE_``.

    Raises:
        UnknownModelError: (a ``RuntimeError``) If there is no model of that name.
    """
    if config_path.endswith(".py"):
        path = LAZY_CONFIGS / config_path
        if not path.is_file():
            raise _unknown(config_path, _lazy_names())
        return str(path)
    if _stem(config_path) not in PRESETS:
        raise _unknown(config_path, list(PRESETS) + _lazy_names())
    return str(_write_yaml(_stem(config_path)))


def _write_yaml(stem: str) -> Path:
    import yaml

    from retinue import __version__
    from retinue.utils.file_io import atomic_write, get_cache_dir

    tree: dict[str, Any] = {"VERSION": 2}
    for key, value in PRESETS[stem].settings().items():
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
    if config_path.endswith(".py"):
        from retinue.config import LazyConfig

        lazy = LazyConfig.load(get_config_file(config_path))
        if trained:
            lazy.train.init_checkpoint = get_checkpoint_url(config_path)
        return lazy

    from retinue.config import get_cfg

    stem = _stem(config_path)
    if stem not in PRESETS:
        raise _unknown(config_path, list(PRESETS) + _lazy_names())
    cfg = get_cfg()
    settings = PRESETS[stem].settings()
    cfg.merge_from_list([part for key_value in settings.items() for part in key_value])
    if trained:
        cfg.MODEL.WEIGHTS = get_checkpoint_url(config_path)
    return cfg


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
    import torch

    from retinue.checkpoint import DetectionCheckpointer

    cfg = get_config(config_path, trained)
    if device is None and not torch.cuda.is_available():
        device = "cpu"
    if config_path.endswith(".py"):
        from retinue.config import instantiate

        model = instantiate(cfg.model)
        model = model.to(device) if device is not None else model
        weights = cfg.train.init_checkpoint if "train" in cfg else ""
    else:
        from retinue.modeling import build_model

        if device is not None:
            cfg.MODEL.DEVICE = device
        model = build_model(cfg)
        weights = cfg.MODEL.WEIGHTS
    if weights:
        DetectionCheckpointer(model).load(weights)
    return model
