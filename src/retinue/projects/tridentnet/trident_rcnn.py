"""Detections of each branch, and how they become one."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from retinue.config import CfgNode, configurable
from retinue.layers import ShapeSpec, batched_nms
from retinue.modeling.roi_heads.roi_heads import Res5ROIHeads, StandardROIHeads
from retinue.projects.tridentnet.trident_rpn import branches_in_use
from retinue.structures import ImageList, Instances

__all__ = ["TridentRes5ROIHeads", "TridentStandardROIHeads", "merge_branch_instances"]


def merge_branch_instances(
    instances: Sequence[Instances], num_branch: int, nms_thresh: float, topk_per_image: int
) -> list[Instances]:
    """Join the detections of all branches.

    Args:
        instances: of every image in the first branch, then in the second, and so on.
        num_branch: number of branches.
        nms_thresh: detections of a class that overlap more are one.
        topk_per_image: most detections to keep, the best; all with a negative number.

    Returns:
        Detections of each image, best first.
    """
    if num_branch == 1:
        return list(instances)
    num_images = len(instances) // num_branch
    merged = []
    for i in range(num_images):
        found = Instances.cat(list(instances[i::num_images]))
        keep = batched_nms(found.pred_boxes.tensor, found.scores, found.pred_classes, nms_thresh)
        merged.append(found[keep if topk_per_image < 0 else keep[:topk_per_image]])
    return merged


class _TridentROIHeads:
    """What ROI heads need to work on branches; to be put before a class of ROI heads."""

    num_branch: int
    trident_fast: bool
    training: bool
    box_predictor: Any

    def _set_branches(self, num_branch: int, trident_fast: bool) -> None:
        self.num_branch = num_branch
        self.trident_fast = trident_fast

    def forward(
        self,
        images: ImageList,
        features: Mapping[str, torch.Tensor],
        proposals: list[Instances],
        targets: list[Instances] | None = None,
    ) -> tuple[list[Instances], dict[str, torch.Tensor]]:
        """See :meth:`ROIHeads.forward`; proposals come branch by branch, targets once."""
        count = branches_in_use(self.num_branch, self.trident_fast, self.training)
        repeated = None if targets is None else list(targets) * count
        found, losses = super().forward(  # type: ignore[misc]
            images, features, proposals, repeated
        )
        if self.training:
            return found, losses
        predictor = self.box_predictor
        merged = merge_branch_instances(
            found, count, predictor.test_nms_thresh, predictor.test_topk_per_image
        )
        return merged, {}


def _branches(cfg: CfgNode) -> dict[str, Any]:
    trident = cfg.MODEL.TRIDENT
    return {"num_branch": trident.NUM_BRANCH, "trident_fast": trident.TEST_BRANCH_IDX != -1}


class TridentRes5ROIHeads(_TridentROIHeads, Res5ROIHeads):
    """:class:`Res5ROIHeads` on branches.

    Args:
        num_branch: number of branches.
        trident_fast: only one of them is used in inference.
        **kwargs: arguments of :class:`Res5ROIHeads`.
    """

    @configurable
    def __init__(self, *, num_branch: int, trident_fast: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._set_branches(num_branch, trident_fast)

    @classmethod
    def from_config(  # type: ignore[override]
        cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]
    ) -> dict[str, Any]:
        return super().from_config(cfg, input_shape) | _branches(cfg)


class TridentStandardROIHeads(_TridentROIHeads, StandardROIHeads):
    """:class:`StandardROIHeads` on branches.

    Args:
        num_branch: number of branches.
        trident_fast: only one of them is used in inference.
        **kwargs: arguments of :class:`StandardROIHeads`.
    """

    @configurable
    def __init__(self, *, num_branch: int, trident_fast: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._set_branches(num_branch, trident_fast)

    @classmethod
    def from_config(  # type: ignore[override]
        cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]
    ) -> dict[str, Any]:
        return super().from_config(cfg, input_shape) | _branches(cfg)
