"""Paths and mappings of configs."""

import os

from retinue.config import CfgNode

__all__ = [
    "get_category_to_class_mapping",
    "get_class_to_mesh_name_mapping",
    "is_relative_local_path",
    "maybe_prepend_base_path",
]


def is_relative_local_path(path: str) -> bool:
    """Tell a relative path from an absolute one and from an address."""
    return "://" not in os.fsdecode(path) and not os.path.isabs(path)


def maybe_prepend_base_path(base_path: str | None, path: str) -> str:
    """Put a relative path below ``base_path``, if that is given; leave others as they are."""
    if base_path is None or not is_relative_local_path(path):
        return path
    return os.path.join(base_path, path)


def get_class_to_mesh_name_mapping(cfg: CfgNode) -> dict[int, str]:
    """Return the mesh of each class of the model."""
    return {int(number): mesh for number, mesh in cfg.DATASETS.CLASS_TO_MESH_NAME_MAPPING.items()}


def get_category_to_class_mapping(dataset_cfg: CfgNode) -> dict[str, int]:
    """Return the class of each category of an entry of ``BOOTSTRAP_DATASETS``."""
    return {name: int(number) for name, number in dataset_cfg.CATEGORY_TO_CLASS_MAPPING.items()}
