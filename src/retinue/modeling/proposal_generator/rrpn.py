"""The region proposal network on rotated boxes: centre x, centre y, width, height, angle.

Angles are in degrees, counter-clockwise. All steps but matching are those of RPN.

Source: Ma et al., "Arbitrary-Oriented Scene Text Detection via Rotation Proposals" (2017),
https://arxiv.org/abs/1703.01086.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from retinue.config import configurable
from retinue.modeling.box_regression import Box2BoxTransformRotated
from retinue.modeling.catalog import PROPOSAL_GENERATOR_REGISTRY
from retinue.modeling.proposal_generator.proposal_utils import find_top_rpn_proposals
from retinue.modeling.proposal_generator.rpn import RPN
from retinue.structures import Instances, pairwise_iou_rotated

if TYPE_CHECKING:
    from retinue.config import CfgNode
    from retinue.layers import ShapeSpec

__all__ = ["PROPOSAL_GENERATOR_REGISTRY", "RRPN", "find_top_rrpn_proposals"]


def find_top_rrpn_proposals(
    proposals: Sequence[torch.Tensor],
    pred_objectness_logits: Sequence[torch.Tensor],
    image_sizes: Sequence[tuple[int, int]],
    nms_thresh: float,
    pre_nms_topk: int,
    post_nms_topk: int,
    min_box_size: float,
    training: bool,
) -> list[Instances]:
    """Choose the rotated proposals of each image, see ``find_top_rpn_proposals``.

    Args:
        proposals: for each level ``(N, R_l, 5)`` boxes.
        pred_objectness_logits: for each level ``(N, R_l)``.
        image_sizes: (height, width) of each image.
        nms_thresh: rotated IoU above which the box with the lower score goes.
        pre_nms_topk: how many boxes of a level take part.
        post_nms_topk: how many boxes of an image remain.
        min_box_size: width and height of a box must be greater, in pixels.
        training: whether a box or score that is not finite is an error; else it is dropped.
    """
    return find_top_rpn_proposals(
        proposals,
        pred_objectness_logits,
        image_sizes,
        nms_thresh,
        pre_nms_topk,
        post_nms_topk,
        min_box_size,
        training,
    )


class RRPN(RPN):
    """An ``RPN`` whose anchors, ground truth and proposals are ``RotatedBoxes``.

    Raises:
        NotImplementedError: If ``anchor_boundary_thresh`` isn't negative.
    """

    @configurable
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.anchor_boundary_thresh >= 0:
            raise NotImplementedError(
                "RRPN: whether a rotated anchor lies inside the image is not defined here; set"
                f" anchor_boundary_thresh (MODEL.RPN.BOUNDARY_THRESH) to -1, not"
                f" {self.anchor_boundary_thresh}"
            )

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        arguments = super().from_config(cfg, input_shape)
        transform = Box2BoxTransformRotated(weights=cfg.MODEL.RPN.BBOX_REG_WEIGHTS)
        return arguments | {"box2box_transform": transform}

    def _similarity(self, gt_boxes: Any, anchors: Any) -> torch.Tensor:
        """Rotated IoU of each annotated box with each anchor, ``(M, R)``."""
        return pairwise_iou_rotated(gt_boxes, anchors)
