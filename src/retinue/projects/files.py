"""Config files for projects: which project a file is for, and reading it with that project's keys.

A file is for the project that knows its keys. Where several do, the one whose folder is in its
path is meant, ``.../PointRend/configs/...``, then detectron2 itself.

Reading order: project_of, read_config, expect_no_project.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from retinue.config import CfgNode
from retinue.projects import zoo
from retinue.utils.errors import InputError
from retinue.utils.file_io import PathManager

if TYPE_CHECKING:
    from omegaconf import DictConfig

__all__ = ["expect_no_project", "project_of", "read_config"]


def project_of(config_file: str) -> str | None:
    """Return the name of the project that a YAML config is for, None if it is for none.

    Args:
        config_file: path or address of a file, or the path of a published config, see ``zoo``.

    Raises:
        UnknownNameError: (a ``KeyError``) If no such config is published.
        FileNotFoundError: If there is no such file.

    Example:
        >>> project_of("projects/PointSup/configs/mask_rcnn_R_50_FPN_3x_point_sup_coco.yaml")
        'PointSup'
    """
    folders = config_file.split("/")
    if _is_published(config_file):
        zoo.find_preset(config_file)
        return folders[1]
    content = CfgNode.load_yaml_with_base(config_file)
    named = [project for project in zoo.PROJECTS if project in folders]
    unknown: dict[str | None, int] = {
        project: _num_unknown(content, zoo.default_config(project))
        for project in (*named, None, *zoo.PROJECTS)
    }
    return min(unknown, key=unknown.__getitem__)  # the first of those with the fewest


def read_config(config_file: str) -> CfgNode | DictConfig:
    """Read a YAML config over the defaults of the project that it is for.

    Args:
        config_file: as in ``project_of``.

    Raises:
        UnknownNameError: (a ``KeyError``) If no such config is published, or no project knows one
            of its keys.
        InputError: If there is no such file.
    """
    if _is_published(config_file):
        return zoo.get_config(config_file)
    is_there = PathManager.isfile(config_file)
    cfg = zoo.default_config(project_of(config_file) if is_there else None)
    cfg.merge_from_file(config_file)
    return cfg


def expect_no_project(config_file: str) -> None:
    """Refuse a YAML config that a project's own program trains; say how to start that.

    Args:
        config_file: as in ``project_of``.

    Raises:
        InputError: If it is for a project.
        UnknownNameError: (a ``KeyError``) If no such config is published.
    """
    is_lazy = config_file.endswith(".py")
    if is_lazy or not (_is_published(config_file) or PathManager.isfile(config_file)):
        return
    if project := project_of(config_file):
        raise InputError(
            f"{config_file} is for the project {project}, which adds keys of its own and trains in"
            f" its own way: run `python -m retinue.projects.train --config-file {config_file}`,"
            " with the same options"
        )


def _is_published(config_file: str) -> bool:
    return config_file.startswith("projects/") and not PathManager.isfile(config_file)


def _num_unknown(content: Mapping[str, Any], node: CfgNode | None) -> int:
    """Count the keys that a tree lacks; None has none."""
    if node is not None and node.is_new_allowed():
        return 0
    num = 0
    for key, value in content.items():
        below = None if node is None else node.get(key)
        num += node is None or key not in node
        if isinstance(value, Mapping):
            num += _num_unknown(value, below if isinstance(below, CfgNode) else None)
    return num
