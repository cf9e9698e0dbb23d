"""Config keys of older versions: what they were called, and going from one version to another.

A converter leads from one version to the next: a table of renamed keys, and what a table cannot
say.
"""

from __future__ import annotations

import logging
from typing import Any

from yacs.config import CfgNode

from retinue.utils.errors import InputError

__all__ = ["downgrade_config", "upgrade_config"]


def upgrade_config(cfg: CfgNode, to_version: int | None = None) -> CfgNode:
    """Return a copy with the keys of a newer version.

    Args:
        to_version: the version to reach; None is the newest.
    """
    cfg = cfg.clone()
    target = len(_CONVERTERS) if to_version is None else to_version
    _check_version(target)
    for version in range(cfg.VERSION, target):
        _CONVERTERS[version].upgrade(cfg)
        cfg.VERSION = version + 1
    return cfg


def downgrade_config(cfg: CfgNode, to_version: int) -> CfgNode:
    """Return a copy with the keys of an older version.

    Raises:
        InputError: If there is no such version, or it is newer.
    """
    cfg = cfg.clone()
    _check_version(to_version)
    if to_version > cfg.VERSION:
        raise InputError(
            f"downgrade_config: expected a version up to {cfg.VERSION}; got {to_version}"
        )
    for version in range(cfg.VERSION, to_version, -1):
        _CONVERTERS[version - 1].downgrade(cfg)
        cfg.VERSION = version - 1
    return cfg


def _check_version(version: int) -> None:
    if not 0 <= version <= len(_CONVERTERS):
        raise InputError(f"config version: expected 0 to {len(_CONVERTERS)}; got {version}")


def guess_version(cfg: CfgNode, filename: str) -> int:
    """Guess the version of a partial config that does not say it, by keys that only one has."""
    if any(_get(cfg, key) is not _ABSENT for key in ("MODEL.WEIGHT", "TEST.AUG_ON")):
        version = 1
        logging.getLogger(__name__).warning(
            "Config '%s' has no VERSION. Assuming it to be v%d, by its keys; please add"
            " `VERSION: %d`",
            filename,
            version,
            version,
        )
        return version
    return len(_CONVERTERS)


_ABSENT = object()


def _get(cfg: CfgNode, key: str) -> Any:
    node: Any = cfg
    for part in key.split("."):
        if not isinstance(node, dict) or part not in node:
            return _ABSENT
        node = node[part]
    return node


def _set(cfg: CfgNode, key: str, value: Any) -> None:
    *folders, name = key.split(".")
    node = cfg
    for folder in folders:
        if folder not in node:
            node[folder] = type(cfg)()
        node = node[folder]
    node[name] = value


def _drop(cfg: CfgNode, key: str) -> None:
    """Delete a key, and the nodes above it that are left empty."""
    folder, _, name = key.rpartition(".")
    node = _get(cfg, folder) if folder else cfg
    if node is _ABSENT:
        return
    node.pop(name, None)
    if not node and folder:
        _drop(cfg, folder)


def _rename(cfg: CfgNode, old: str, new: str) -> None:
    if (value := _get(cfg, old)) is not _ABSENT:
        _drop(cfg, old)
        _set(cfg, new, value)


class _RenameConverter:
    """A step between two versions that only renames; ``RENAME`` lists (old, new)."""

    RENAME: list[tuple[str, str]] = []  # noqa: RUF012 - detectron2's name and type

    @classmethod
    def upgrade(cls, cfg: CfgNode) -> None:
        """Go up by one version, in place."""
        for old, new in cls.RENAME:
            _rename(cfg, old, new)

    @classmethod
    def downgrade(cls, cfg: CfgNode) -> None:
        """Go down by one version, in place."""
        for old, new in reversed(cls.RENAME):
            _rename(cfg, new, old)


class ConverterV1(_RenameConverter):
    """Between versions 0 and 1."""

    RENAME = [("MODEL.RPN_HEAD.NAME", "MODEL.RPN.HEAD_NAME")]  # noqa: RUF012


def _below(node: str, names: dict[str, str]) -> list[tuple[str, str]]:
    return [(f"{node}.{old}", f"{node}.{new}") for old, new in names.items()]


_ANCHOR_KEYS = ("ANCHOR_SIZES", "ANCHOR_ASPECT_RATIOS")


class ConverterV2(_RenameConverter):
    """Between versions 1 and 2, where RPN and RetinaNet came to share the anchors' keys."""

    RENAME = [  # noqa: RUF012
        *_below("MODEL", {"WEIGHT": "WEIGHTS"}),
        *_below(
            "MODEL",
            {
                "PANOPTIC_FPN.SEMANTIC_LOSS_SCALE": "SEM_SEG_HEAD.LOSS_WEIGHT",
                "PANOPTIC_FPN.RPN_LOSS_SCALE": "RPN.LOSS_WEIGHT",
            },
        ),
        *_below(
            "MODEL.PANOPTIC_FPN",
            {
                "INSTANCE_LOSS_SCALE": "INSTANCE_LOSS_WEIGHT",
                "COMBINE_ON": "COMBINE.ENABLED",
                "COMBINE_OVERLAP_THRESHOLD": "COMBINE.OVERLAP_THRESH",
                "COMBINE_STUFF_AREA_LIMIT": "COMBINE.STUFF_AREA_LIMIT",
                "COMBINE_INSTANCES_CONFIDENCE_THRESHOLD": "COMBINE.INSTANCES_CONFIDENCE_THRESH",
            },
        ),
        *_below("MODEL.ROI_HEADS", {"SCORE_THRESH": "SCORE_THRESH_TEST", "NMS": "NMS_THRESH_TEST"}),
        *_below(
            "MODEL.RETINANET",
            {
                "INFERENCE_SCORE_THRESHOLD": "SCORE_THRESH_TEST",
                "INFERENCE_TOPK_CANDIDATES": "TOPK_CANDIDATES_TEST",
                "INFERENCE_NMS_THRESHOLD": "NMS_THRESH_TEST",
            },
        ),
        *_below(
            "TEST",
            {
                "DETECTIONS_PER_IMG": "DETECTIONS_PER_IMAGE",
                "AUG_ON": "AUG.ENABLED",
                "AUG_MIN_SIZES": "AUG.MIN_SIZES",
                "AUG_MAX_SIZE": "AUG.MAX_SIZE",
                "AUG_FLIP": "AUG.FLIP",
            },
        ),
    ]

    @classmethod
    def upgrade(cls, cfg: CfgNode) -> None:
        """Go up by one version, in place."""
        super().upgrade(cfg)
        is_retinanet = _get(cfg, "MODEL.META_ARCHITECTURE") == "RetinaNet"
        used, unused = ("RETINANET", "RPN") if is_retinanet else ("RPN", "RETINANET")
        for key in _ANCHOR_KEYS:
            _rename(cfg, f"MODEL.{used}.{key}", "MODEL.ANCHOR_GENERATOR." + key.partition("_")[2])
            _drop(cfg, f"MODEL.{unused}.{key}")
        _drop(cfg, "MODEL.RETINANET.ANCHOR_STRIDES")

    @classmethod
    def downgrade(cls, cfg: CfgNode) -> None:
        """Go down by one version, in place."""
        super().downgrade(cfg)
        for key in _ANCHOR_KEYS:
            new = "MODEL.ANCHOR_GENERATOR." + key.partition("_")[2]
            if (value := _get(cfg, new)) is not _ABSENT:
                _drop(cfg, new)
                _set(cfg, f"MODEL.RPN.{key}", value)
                _set(cfg, f"MODEL.RETINANET.{key}", value)
        _set(cfg, "MODEL.RETINANET.ANCHOR_STRIDES", [])


_CONVERTERS = (ConverterV1, ConverterV2)
