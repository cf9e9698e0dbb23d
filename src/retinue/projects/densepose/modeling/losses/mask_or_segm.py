"""Loss of the coarse segmentation, by masks or by parts as the config says."""

from collections.abc import Sequence
from typing import Any

import torch

from retinue.config import CfgNode
from retinue.projects.densepose.modeling.losses.mask import MaskLoss
from retinue.projects.densepose.modeling.losses.segm import SegmentationLoss
from retinue.structures import Instances

__all__ = ["MaskOrSegmentationLoss"]


class MaskOrSegmentationLoss:
    """:class:`.MaskLoss` with ``COARSE_SEGM_TRAINED_BY_MASKS``, else :class:`.SegmentationLoss`.

    Args:
        cfg: with ``MODEL.ROI_DENSEPOSE_HEAD``.
    """

    def __init__(self, cfg: CfgNode) -> None:
        self.segm_trained_by_masks = cfg.MODEL.ROI_DENSEPOSE_HEAD.COARSE_SEGM_TRAINED_BY_MASKS
        self.mask_loss = MaskLoss()
        self.segm_loss = SegmentationLoss(cfg)

    def __call__(
        self,
        proposals_with_gt: Sequence[Instances],
        densepose_predictor_outputs: Any,
        packed_annotations: Any,
    ) -> torch.Tensor:
        """Return a scalar; arguments are those of the two losses."""
        if self.segm_trained_by_masks:
            return self.mask_loss(proposals_with_gt, densepose_predictor_outputs)
        return self.segm_loss(proposals_with_gt, densepose_predictor_outputs, packed_annotations)

    def fake_value(self, densepose_predictor_outputs: Any) -> torch.Tensor:
        """Return 0 that depends on the predictions."""
        return self.segm_loss.fake_value(densepose_predictor_outputs)
