"""Published configs of projects by their path in detectron2's repository.

A path is ``projects/<Project>/configs/<name>``. A name ending in ``.yaml`` is a row of the
project's ``presets.PRESETS``: overlays over the defaults to which the functions in
``presets.ADD_CONFIG`` have added the project's keys. A name ending in ``.py`` is a lazy config, a
file below the project's ``configs`` folder; a row of ``PRESETS`` says where its weights are.
"""

from __future__ import annotations

import copy
import importlib
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from retinue.utils.errors import unknown_name

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from retinue.config import CfgNode
    from retinue.model_zoo.presets import Preset

__all__ = [
    "config_paths",
    "default_config",
    "find_preset",
    "get_checkpoint_url",
    "get_config",
    "get_config_file",
    "package_of",
]

PROJECTS = {  # detectron2's folder -> the package here
    "DeepLab": "deeplab",
    "DensePose": "densepose",
    "MViTv2": "mvitv2",
    "MeshRCNN": "meshrcnn",  # of its own repository, facebookresearch/meshrcnn
    "Panoptic-DeepLab": "panoptic_deeplab",
    "PointRend": "point_rend",
    "PointSup": "point_sup",
    "Rethinking-BatchNorm": "rethinking_batchnorm",
    "TensorMask": "tensormask",
    "TridentNet": "tridentnet",
    "ViTDet": "vitdet",
}
WEIGHTS_PREFIX = "https://dl.fbaipublicfiles.com/"


def get_config(path: str, trained: bool = False) -> CfgNode | DictConfig:
    """Return a published config of a project.

    Args:
        path: ``projects/<Project>/configs/<name>``, with or without its ending.
        trained: let the config name the published weights instead of those training starts from.

    Raises:
        UnknownNameError: If there is no such config, or no weights for it.

    Example:
        >>> base = "projects/PointRend/configs/InstanceSegmentation"
        >>> get_config(f"{base}/pointrend_rcnn_R_50_FPN_1x_coco.yaml").MODEL.POINT_HEAD.NAME
        'StandardPointHead'
    """
    presets, name = _find(path)
    if name.endswith(".py"):
        from retinue.config import LazyConfig

        lazy = LazyConfig.load(str(_lazy_folder(presets) / name))
        if trained:
            lazy.train.init_checkpoint = get_checkpoint_url(path)
        return lazy

    cfg = default_config(_project_of(path))
    settings = presets.PRESETS[name].settings()
    for key, below in settings.items():
        if isinstance(below, Mapping):  # a node that takes new keys
            cfg.merge_from_other_cfg(_nested(key, below))
        else:
            cfg.merge_from_list([key, below])
    if trained:
        cfg.MODEL.WEIGHTS = get_checkpoint_url(path)
    return cfg


def default_config(project: str | None = None) -> CfgNode:
    """Return detectron2's defaults, with the keys that a project adds to them."""
    from retinue.config import get_cfg

    cfg = get_cfg()
    if project is not None:
        presets = importlib.import_module(f"retinue.projects.{PROJECTS[project]}.presets")
        for add_config in getattr(presets, "ADD_CONFIG", ()):
            add_config(cfg)
    return cfg


def get_checkpoint_url(path: str) -> str:
    """Return the address of the trained weights of a project's config.

    Raises:
        UnknownNameError: If there is no such config, or no weights for it.
    """
    presets, name = _find(path)
    table: dict[str, Preset] = presets.PRESETS
    if name not in table or not table[name].weights:
        trained = [n for n, preset in table.items() if preset.weights]
        raise unknown_name("config with published weights", name, trained)
    return WEIGHTS_PREFIX + table[name].weights


def find_preset(path: str) -> Preset:
    """Return what is published beside a project's config: overlays, weights, scores.

    Raises:
        UnknownNameError: If there is no such config.
    """
    from retinue.model_zoo.presets import Preset

    presets, name = _find(path)
    found: Preset = presets.PRESETS.get(name, Preset(()))
    return found


def get_config_file(path: str) -> str:
    """Return the path of a file with a published config of a project; YAML is written merged.

    Raises:
        UnknownNameError: If there is no such config.
    """
    from retinue.model_zoo.model_zoo import write_yaml

    presets, name = _find(path)
    if name.endswith(".py"):
        return str(_lazy_folder(presets) / name)
    return str(write_yaml(path.removesuffix(".yaml"), presets.PRESETS[name].settings()))


def config_paths() -> list[str]:
    """Return the paths of all published configs of all projects."""
    return [
        f"projects/{project}/configs/{name}"
        for project, package in PROJECTS.items()
        for name in _names(importlib.import_module(f"retinue.projects.{package}.presets"))
    ]


def package_of(path: str) -> str:
    """Return the dotted name of the package that a path's project lives in.

    Raises:
        UnknownNameError: If there is no such project.
    """
    return f"retinue.projects.{PROJECTS[_project_of(path)]}"


def _project_of(path: str) -> str:
    project = path.removeprefix("projects/").partition("/")[0]
    if project not in PROJECTS:
        raise unknown_name("project", project, PROJECTS)
    return project


def _find(path: str) -> tuple[ModuleType, str]:
    """Split a path into the project's ``presets`` and the name of a config in it."""
    presets = importlib.import_module(f"{package_of(path)}.presets")
    name = path.partition("/configs/")[2]
    known = _names(presets)
    for ending in ("", ".yaml", ".py"):
        if name + ending in known:
            return presets, name + ending
    raise unknown_name(f"config of {presets.__package__}", name, known)


def _nested(key: str, below: Mapping[str, Any]) -> CfgNode:
    """Make the tree that has ``below`` at a dotted key, and nothing else."""
    from retinue.config import CfgNode

    for name in reversed(key.split(".")):
        below = {name: below}
    return CfgNode(copy.deepcopy(dict(below)))


def _names(presets: ModuleType) -> list[str]:
    folder = _lazy_folder(presets)
    files = [p.relative_to(folder).as_posix() for p in folder.rglob("*.py")]
    return sorted({n for n in presets.PRESETS if n.endswith(".yaml")} | set(files))


def _lazy_folder(presets: ModuleType) -> Path:
    return Path(presets.__file__ or "").parent / "configs"
