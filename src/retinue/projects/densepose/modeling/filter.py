"""Which proposals DensePose is trained on."""

from collections.abc import Sequence

import torch

from retinue.config import CfgNode
from retinue.structures import Instances
from retinue.structures.boxes import matched_pairwise_iou

__all__ = ["DensePoseDataFilter"]


class DensePoseDataFilter:
    """Keeps proposals that overlap an object with annotations well.

    Args:
        cfg: with ``MODEL.ROI_DENSEPOSE_HEAD``: ``FG_IOU_THRESHOLD``, and whether masks count as
            annotations, ``COARSE_SEGM_TRAINED_BY_MASKS``.
    """

    def __init__(self, cfg: CfgNode) -> None:
        head = cfg.MODEL.ROI_DENSEPOSE_HEAD
        self.iou_threshold = head.FG_IOU_THRESHOLD
        self.keep_masks = head.COARSE_SEGM_TRAINED_BY_MASKS

    @torch.no_grad()
    def __call__(
        self, features: list[torch.Tensor], proposals_with_targets: Sequence[Instances]
    ) -> tuple[list[torch.Tensor], list[Instances]]:
        """Return the features as they are, and what is kept of each image's proposals."""
        return features, [self._keep(proposals) for proposals in proposals_with_targets]

    def _keep(self, proposals: Instances) -> Instances:
        masks_count = self.keep_masks and proposals.has("gt_masks")
        if not masks_count and not proposals.has("gt_densepose"):
            return proposals[:0]
        iou = matched_pairwise_iou(proposals.gt_boxes, proposals.proposal_boxes)
        proposals = proposals[iou > self.iou_threshold]
        if masks_count:
            return proposals
        annotated = [i for i, data in enumerate(proposals.gt_densepose) if data is not None]
        return proposals if len(annotated) == len(proposals) else proposals[annotated]
