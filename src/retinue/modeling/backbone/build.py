"""Build the backbone that a config names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retinue.layers import ShapeSpec
from retinue.modeling.backbone.backbone import Backbone
from retinue.modeling.catalog import BACKBONE_REGISTRY
from retinue.utils.errors import InputError

if TYPE_CHECKING:
    from retinue.config import CfgNode

__all__ = ["BACKBONE_REGISTRY", "build_backbone"]


def build_backbone(cfg: CfgNode, input_shape: ShapeSpec | None = None) -> Backbone:
    """Build ``cfg.MODEL.BACKBONE.NAME``.

    Args:
        cfg: the whole config.
        input_shape: channels of the images; by default as many as ``MODEL.PIXEL_MEAN`` has.

    Raises:
        UnknownNameError: If no backbone has that name.
        InputError: If what is registered under the name doesn't make a ``Backbone``.
    """
    if input_shape is None:
        input_shape = ShapeSpec(channels=len(cfg.MODEL.PIXEL_MEAN))
    name = cfg.MODEL.BACKBONE.NAME
    backbone = BACKBONE_REGISTRY.get(name)(cfg, input_shape)
    if not isinstance(backbone, Backbone):
        raise InputError(
            f"build_backbone: {name!r} must return a Backbone; got {type(backbone).__name__};"
            " derive it from retinue.modeling.Backbone"
        )
    return backbone
