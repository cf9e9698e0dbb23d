"""Mask heads that learn from points: only the loss differs from the heads they extend."""

from typing import Any

import torch

from retinue.modeling.roi_heads.mask_head import MaskRCNNConvUpsampleHead, mask_rcnn_inference
from retinue.projects.point_rend.mask_head import ImplicitPointRendMaskHead
from retinue.projects.point_rend.point_features import point_sample
from retinue.projects.point_rend.point_head import roi_mask_point_loss
from retinue.projects.point_sup.point_utils import get_point_coords_from_point_annotation
from retinue.structures import Instances

__all__ = ["ImplicitPointRendPointSupHead", "MaskRCNNConvUpsamplePointSupHead"]


class MaskRCNNConvUpsamplePointSupHead(MaskRCNNConvUpsampleHead):
    """The head of Mask R-CNN, trained at annotated points: masks are interpolated there."""

    def forward(  # type: ignore[override]
        self, x: torch.Tensor, instances: list[Instances]
    ) -> Any:
        """Return ``loss_mask`` in training; otherwise the instances, with ``pred_masks``.

        Args:
            x: ``(R, C, S, S)`` region features.
            instances: per image; proposals with points in training, detections otherwise.
        """
        logits = self.layers(x)  # (R, K, M, M)
        if not self.training:
            mask_rcnn_inference(logits, instances)
            return instances
        if not len(logits):
            return {"loss_mask": logits.sum() * 0}
        points, labels = get_point_coords_from_point_annotation(instances)
        at_points = point_sample(logits, points, align_corners=False)  # (R, K, P)
        return {"loss_mask": roi_mask_point_loss(at_points, instances, labels)}


class ImplicitPointRendPointSupHead(ImplicitPointRendMaskHead):
    """Implicit PointRend, trained at annotated points instead of random ones."""

    def _uniform_sample_train_points(
        self, instances: list[Instances]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not any(len(i) for i in instances):
            nothing = instances[0].proposal_boxes.tensor.new_zeros(0, 1, 2)
            return nothing, nothing[:, :, 0]
        return get_point_coords_from_point_annotation(instances)
