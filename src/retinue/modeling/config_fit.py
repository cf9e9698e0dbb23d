"""Refuses configs whose parts don't fit each other, before anything is built.

Each check looks at two keys of the library's own parts, and names both. A user's own parts are
theirs to check. What detectron2 ignores without harm is ignored here, too, with a warning.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from retinue.modeling.backbone.backbone import Backbone
from retinue.utils.errors import InputError, unknown_name

if TYPE_CHECKING:
    from retinue.config import CfgNode

__all__ = ["check_features", "check_fit", "check_parts", "pick_features"]

T = TypeVar("T")

logger = logging.getLogger(__name__)

_PYRAMIDS = ("build_resnet_fpn_backbone", "build_retinanet_resnet_fpn_backbone")
_RESNETS = ("build_resnet_backbone", *_PYRAMIDS)
_STAGES = ("stem", "res2", "res3", "res4", "res5")
_WITHOUT_INSTANCES = {
    "ProposalNetwork": "boxes without classes",
    "SemanticSegmentor": "label maps",
}
_WITH_PROPOSALS = ("GeneralizedRCNN", "PanopticFPN", "ProposalNetwork")


def check_fit(cfg: CfgNode) -> None:
    """Check a model's config.

    A warning says so if masks or keypoints are asked of a model of proposals or label maps.

    Raises:
        InputError: If RetinaNet should have masks or keypoints, or anchors are given for another
            number of levels than features are.
        UnknownNameError: If a ResNet is asked for stages that it has not, or a pyramid is to be
            made of features that the backbone doesn't give.
    """
    _check_instances(cfg)
    if cfg.MODEL.BACKBONE.NAME in _RESNETS:
        given = cfg.MODEL.RESNETS.OUT_FEATURES
        giver = f"MODEL.BACKBONE.NAME {cfg.MODEL.BACKBONE.NAME}"
        check_features("MODEL.RESNETS.OUT_FEATURES", given, _STAGES, giver)
    if cfg.MODEL.BACKBONE.NAME in _PYRAMIDS:
        for name in cfg.MODEL.FPN.IN_FEATURES:
            if name not in given:
                hint = "those are MODEL.RESNETS.OUT_FEATURES; add it there"
                raise unknown_name("feature in MODEL.FPN.IN_FEATURES", name, given, hint)
    _check_anchors(cfg)


def _check_instances(cfg: CfgNode) -> None:
    name = cfg.MODEL.META_ARCHITECTURE
    for key in ("MASK_ON", "KEYPOINT_ON"):
        if not cfg.MODEL[key]:
            continue
        way_out = f"set MODEL.{key} to False, or use GeneralizedRCNN"
        if name == "RetinaNet":
            raise InputError(
                f"MODEL.{key} is True, but MODEL.META_ARCHITECTURE RetinaNet predicts boxes"
                f" only; {way_out}"
            )
        if name in _WITHOUT_INSTANCES:
            logger.warning(
                f"MODEL.{key} is True, and has no effect on the model: MODEL.META_ARCHITECTURE"
                f" {name} predicts {_WITHOUT_INSTANCES[name]} only; {way_out}"
            )


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


def check_features(
    key: str,
    names: Iterable[str],
    given: Iterable[str],
    giver: str = "the backbone, MODEL.BACKBONE.NAME,",
) -> None:
    """Check that the backbone gives the feature maps that a config key or an argument names.

    Args:
        key: where ``names`` stand.
        names: of feature maps.
        given: those that there are.
        giver: who gives them, and where that one is named.

    Raises:
        UnknownNameError: If one isn't there; key and giver are named.
    """
    known = list(given)
    for name in names:
        if name not in known:
            raise unknown_name(f"feature in {key}", name, known, f"those are what {giver} gives")


def pick_features(key: str, names: Sequence[str], given: Mapping[str, T]) -> dict[str, T]:
    """Return those of the backbone's feature maps that a config key names.

    Raises:
        UnknownNameError: As ``check_features``.
    """
    check_features(key, names, given)
    return {name: shape for name, shape in given.items() if name in names}


def check_parts(backbone: Any, **parts: Any) -> None:
    """Check that the backbone gives what the other parts of a model take.

    Args:
        backbone: tells its feature maps by ``output_shape``; one that doesn't is not looked at.
        **parts: by the model's argument; their attributes ``in_features``, ``box_in_features``,
            ``mask_in_features`` and ``keypoint_in_features`` name feature maps.

    Raises:
        UnknownNameError: If one isn't there; the arguments of both parts are named.
    """
    if not isinstance(backbone, Backbone):
        return
    for part_name, part in parts.items():
        for kind in ("box_", "mask_", "keypoint_", ""):
            names = getattr(part, f"{kind}in_features", None)
            is_ours = type(part).__module__.startswith("retinue.")
            if is_ours and isinstance(names, Sequence) and not isinstance(names, str):
                key = f"{part_name}.{kind}in_features"
                check_features(key, names, backbone.output_shape(), "the model's backbone")
