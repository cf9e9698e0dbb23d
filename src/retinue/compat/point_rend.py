"""Steps of PointRend's constructors that subclasses for detectron2 override.

There ``__init__(cfg, input_shape)`` calls ``_init_point_head`` and ``_init_roi_head``, which set
attributes; retinue's heads are built from explicit arguments. Under the hook a head that is made
from a config calls the steps that its class overrides, and these may call those of the base.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from retinue.layers import ShapeSpec
from retinue.projects.point_rend.mask_head import ImplicitPointRendMaskHead, PointRendMaskHead
from retinue.projects.point_rend.semantic_seg import PointRendSemSegHead

__all__ = ["init_mask_head", "init_point_head", "init_roi_head", "init_sem_seg_head"]

_PARTS = {
    "_init_point_head": ("point_head",),
    "_init_roi_head": ("coarse_head", "parameter_head"),
}
_HEADS = (ImplicitPointRendMaskHead, PointRendMaskHead, PointRendSemSegHead)  # subclasses first
_OF_POINT_HEAD = (
    "point_head",
    "num_params",
    "in_features",
    "train_num_points",
    "oversample_ratio",
    "importance_sample_ratio",
    "subdivision_steps",
    "subdivision_num_points",
)


def init_point_head(self: Any, cfg: Any, input_shape: Mapping[str, ShapeSpec]) -> None:
    """Set what a config says about the point head."""
    base: Any = next(head for head in _HEADS if isinstance(self, head))
    built = base(cfg, input_shape)
    for name in (*vars(built), *_OF_POINT_HEAD):
        if (name in _OF_POINT_HEAD or name.startswith("mask_point")) and hasattr(built, name):
            setattr(self, name, getattr(built, name))


def init_roi_head(self: Any, cfg: Any, input_shape: ShapeSpec) -> None:
    """Set the head that sees a whole region of this shape; the point head is there already."""
    base: Any = next(head for head in _HEADS if isinstance(self, head))
    point_head = getattr(self, "point_head", None)
    for name, value in base._roi_head_from_config(cfg, input_shape, point_head).items():
        setattr(self, name, value)


def _calling_steps(original: Callable[..., None], *steps: str) -> Callable[..., None]:
    """Make a constructor that calls those of the steps that a subclass overrides."""
    own = {"_init_point_head": init_point_head, "_init_roi_head": init_roi_head}

    @functools.wraps(original)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        given = dict(zip(("cfg", "input_shape"), args, strict=False)) | kwargs
        if "cfg" not in given:
            return
        for step in steps:
            if getattr(type(self), step) is own[step]:
                continue
            for part in _PARTS[step]:
                self._modules.pop(part, None)
            is_region = step == "_init_roi_head"
            shape = given["input_shape"]
            getattr(self, step)(given["cfg"], _region(self, shape) if is_region else shape)

    return __init__


def _region(head: PointRendMaskHead, input_shape: Mapping[str, ShapeSpec]) -> ShapeSpec:
    channels = sum(input_shape[name].channels or 0 for name in head.roi_pooler_in_features)
    return ShapeSpec(channels=channels, width=head.roi_pooler_size, height=head.roi_pooler_size)


_STEPS = ("_init_point_head", "_init_roi_head")
init_mask_head = _calling_steps(PointRendMaskHead.__init__, *_STEPS)
init_implicit_mask_head = _calling_steps(ImplicitPointRendMaskHead.__init__, *_STEPS)
init_sem_seg_head = _calling_steps(PointRendSemSegHead.__init__, "_init_point_head")
