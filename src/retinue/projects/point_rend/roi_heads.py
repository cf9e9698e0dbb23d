"""ROI heads for PointRend: the standard ones, which also read checkpoints of its first version."""

from collections.abc import Mapping
from typing import Any

from retinue.config import CfgNode
from retinue.layers import ShapeSpec
from retinue.modeling.roi_heads.roi_heads import StandardROIHeads
from retinue.projects.point_rend.mask_head import rename_keys

__all__ = ["PointRendROIHeads"]


class PointRendROIHeads(StandardROIHeads):
    """:class:`StandardROIHeads`, for configs and checkpoints from before PointRend was a mask head.

    There ``MODEL.ROI_MASK_HEAD.NAME`` is ``CoarseMaskHead``, and the point head lies beside it.
    """

    _version = 2

    @classmethod
    def _init_mask_head(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> dict[str, Any]:
        if cfg.MODEL.ROI_MASK_HEAD.NAME == "CoarseMaskHead":
            cfg = cfg.clone()
            cfg.defrost()
            cfg.MODEL.ROI_MASK_HEAD.NAME = "PointRendMaskHead"
            cfg.MODEL.ROI_MASK_HEAD.POOLER_TYPE = ""
        return super()._init_mask_head(cfg, input_shape)

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        rename_keys(
            state_dict,
            prefix,
            {
                "mask_point_head": "mask_head.point_head",
                "mask_coarse_head": "mask_head.coarse_head",
            },
        )
        lists = missing_keys, unexpected_keys, error_msgs
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, *lists)
