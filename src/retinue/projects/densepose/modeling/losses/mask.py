"""Loss of the coarse segmentation, by instance masks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F

from retinue.structures import Instances
from retinue.utils.errors import InputError

__all__ = ["DataForMaskLoss", "MaskLoss", "extract_data_for_mask_loss_from_matches"]


@dataclass
class DataForMaskLoss:
    """Masks of R regions.

    Attributes:
        masks_gt: ``(R, S, S)`` bool; None if R is 0.
        masks_est: ``(R, K, S, S)`` logits; None if R is 0.
    """

    masks_gt: torch.Tensor | None = None
    masks_est: torch.Tensor | None = None


def extract_data_for_mask_loss_from_matches(
    proposals_targets: Sequence[Instances], estimated_segm: torch.Tensor
) -> DataForMaskLoss:
    """Crop the true masks to the regions.

    Args:
        proposals_targets: regions of each image, R in all, with ``proposal_boxes``, ``gt_masks``.
        estimated_segm: ``(R, K, S, S)`` logits.

    Raises:
        InputError: If there are not as many regions as logits, or these are not square.
    """
    num_regions = sum(map(len, proposals_targets))
    height, width = estimated_segm.shape[2:]
    if num_regions != len(estimated_segm) or height != width:
        raise InputError(
            f"mask loss: expected ({num_regions}, K, S, S) logits for {num_regions} regions; got"
            f" {tuple(estimated_segm.shape)}"
        )
    if not num_regions:
        return DataForMaskLoss()
    masks = [
        proposals.gt_masks.crop_and_resize(proposals.proposal_boxes.tensor, height)
        for proposals in proposals_targets
        if len(proposals)
    ]
    return DataForMaskLoss(torch.cat(masks).to(estimated_segm.device), estimated_segm)


class MaskLoss:
    """Cross-entropy at every cell of every region; the masks are those of the image's objects."""

    def __call__(
        self, proposals_with_gt: Sequence[Instances], densepose_predictor_outputs: Any
    ) -> torch.Tensor:
        """Return a scalar, 0 if there are no regions.

        Args:
            proposals_with_gt: regions of each image with ``proposal_boxes`` and ``gt_masks``.
            densepose_predictor_outputs: with ``coarse_segm`` ``(R, K, S, S)``.
        """
        with torch.no_grad():
            data = extract_data_for_mask_loss_from_matches(
                proposals_with_gt, densepose_predictor_outputs.coarse_segm
            )
        if data.masks_est is None or data.masks_gt is None:
            return self.fake_value(densepose_predictor_outputs)
        return F.cross_entropy(data.masks_est, data.masks_gt.long())

    def fake_value(self, densepose_predictor_outputs: Any) -> torch.Tensor:
        """Return 0 that depends on the predictions."""
        return densepose_predictor_outputs.coarse_segm.sum() * 0
