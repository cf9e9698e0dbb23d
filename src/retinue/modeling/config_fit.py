"""Refuses configs whose parts don't fit each other, before anything is built.

Each check looks at two keys of the library's own parts, and names both. A user's own parts are
theirs to check.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from retinue.utils.errors import InputError, unknown_name

if TYPE_CHECKING:
    from retinue.config import CfgNode

__all__ = ["check_features", "check_fit"]

_PYRAMIDS = ("build_resnet_fpn_backbone", "build_retinanet_resnet_fpn_backbone")
_WITH_PROPOSALS = ("GeneralizedRCNN", "PanopticFPN", "ProposalNetwork")


def check_fit(cfg: CfgNode) -> None:
    """Check a model's config.

    Raises:
        InputError: If RetinaNet should have masks or keypoints, or anchors are given for another
            number of levels than features are.
        UnknownNameError: If a pyramid is to be made of features that the backbone doesn't give.
    """
    if cfg.MODEL.META_ARCHITECTURE == "RetinaNet":
        for key in ("MASK_ON", "KEYPOINT_ON"):
            if cfg.MODEL[key]:
                raise InputError(
                    f"MODEL.{key} is True, but MODEL.META_ARCHITECTURE RetinaNet predicts boxes"
                    f" only; set MODEL.{key} to False, or use GeneralizedRCNN"
                )
    if cfg.MODEL.BACKBONE.NAME in _PYRAMIDS:
        given = cfg.MODEL.RESNETS.OUT_FEATURES
        for name in cfg.MODEL.FPN.IN_FEATURES:
            if name not in given:
                hint = "those are MODEL.RESNETS.OUT_FEATURES; add it there"
                raise unknown_name("feature in MODEL.FPN.IN_FEATURES", name, given, hint)
    _check_anchors(cfg)


def _check_anchors(cfg: CfgNode) -> None:
    if cfg.MODEL.META_ARCHITECTURE == "RetinaNet":
        key, features = "MODEL.RETINANET.IN_FEATURES", cfg.MODEL.RETINANET.IN_FEATURES
    elif cfg.MODEL.META_ARCHITECTURE in _WITH_PROPOSALS and cfg.MODEL.PROPOSAL_GENERATOR.NAME in (
        "RPN",
        "RRPN",
    ):
        key, features = "MODEL.RPN.IN_FEATURES", cfg.MODEL.RPN.IN_FEATURES
    else:
        return
    generator = cfg.MODEL.ANCHOR_GENERATOR
    names = {
        "DefaultAnchorGenerator": ("SIZES", "ASPECT_RATIOS"),
        "RotatedAnchorGenerator": ("SIZES", "ASPECT_RATIOS", "ANGLES"),
    }
    for name in names.get(generator.NAME, ()):
        if len(generator[name]) not in (1, len(features)):
            raise InputError(
                f"MODEL.ANCHOR_GENERATOR.{name} is for {len(generator[name])} levels:"
                f" {list(generator[name])}, but {key} names {len(features)}: {list(features)};"
                " give one entry a level, or one for all"
            )


def check_features(key: str, names: Iterable[str], given: Iterable[str]) -> None:
    """Check that the backbone gives the feature maps that a config key names.

    Raises:
        UnknownNameError: If not; the key that names the backbone is named, too.
    """
    known = list(given)
    for name in names:
        if name not in known:
            hint = "those are what the backbone, MODEL.BACKBONE.NAME, gives"
            raise unknown_name(f"feature in {key}", name, known, hint)
