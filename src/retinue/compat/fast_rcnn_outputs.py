"""``FastRCNNOutputs`` of detectron2 0.1 to 0.5: predictions of Fast R-CNN with their proposals.

From 0.6 on ``FastRCNNOutputLayers`` computes losses and detections itself. Heads with a loss of
their own, of the years before, subclass this one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional as F

from retinue.layers import cross_entropy
from retinue.modeling.box_regression import _dense_box_regression_loss
from retinue.modeling.roi_heads.fast_rcnn import (
    _log_classification_stats,
    boxes_of_class,
    fast_rcnn_inference,
)
from retinue.structures import Boxes, Instances
from retinue.utils.errors import InputError

__all__ = ["FastRCNNOutputs"]


class FastRCNNOutputs:
    """Predictions for the regions of N images; R regions, K classes, boxes of B numbers.

    Args:
        box2box_transform: how deltas and boxes relate.
        pred_class_logits: ``(R, K + 1)``, background last.
        pred_proposal_deltas: ``(R, K * B)``, or ``(R, B)`` where classes share a box.
        proposals: per image, with ``proposal_boxes``; in training with ``gt_classes`` and, unless
            all are background, ``gt_boxes``.
        smooth_l1_beta: error from which smooth L1 is linear.
        box_reg_loss_type: ``smooth_l1``, ``giou``, ``diou`` or ``ciou``.

    Raises:
        InputError: If proposals need gradients.
    """

    def __init__(
        self,
        box2box_transform: Any,
        pred_class_logits: torch.Tensor,
        pred_proposal_deltas: torch.Tensor,
        proposals: Sequence[Instances],
        smooth_l1_beta: float = 0.0,
        box_reg_loss_type: str = "smooth_l1",
    ) -> None:
        self.box2box_transform = box2box_transform
        self.num_preds_per_image = [len(p) for p in proposals]
        self.pred_class_logits = pred_class_logits
        self.pred_proposal_deltas = pred_proposal_deltas
        self.smooth_l1_beta = smooth_l1_beta
        self.box_reg_loss_type = box_reg_loss_type
        self.image_shapes = [p.image_size for p in proposals]

        self.proposals = Boxes(pred_proposal_deltas.new_zeros(0, 4))
        if proposals:
            box_type = type(proposals[0].proposal_boxes)
            self.proposals = box_type.cat([p.proposal_boxes for p in proposals])
            if self.proposals.tensor.requires_grad:
                raise InputError("FastRCNNOutputs: proposal_boxes must not need gradients")
            if proposals[0].has("gt_classes"):
                self.gt_classes = torch.cat([p.gt_classes for p in proposals])  # (R,)
                truth = [p.gt_boxes if p.has("gt_boxes") else p.proposal_boxes for p in proposals]
                self.gt_boxes = box_type.cat(truth)
        self._no_instances = len(self.proposals) == 0

    def _log_accuracy(self) -> None:
        _log_classification_stats(self.pred_class_logits, self.gt_classes)

    def softmax_cross_entropy_loss(self) -> torch.Tensor:
        """Return the mean cross entropy, zero without regions; report the accuracy."""
        if self._no_instances:
            return 0.0 * self.pred_class_logits.sum()
        self._log_accuracy()
        return cross_entropy(self.pred_class_logits, self.gt_classes)

    def box_reg_loss(self) -> torch.Tensor:
        """Return the box loss of regions that hold an object, over the number of all regions."""
        if self._no_instances:
            return 0.0 * self.pred_proposal_deltas.sum()
        num_classes = self.pred_class_logits.shape[1] - 1
        boxes = self.proposals.tensor
        deltas = boxes_of_class(self.pred_proposal_deltas, self.gt_classes, boxes.shape[1])
        loss = _dense_box_regression_loss(
            [boxes],
            self.box2box_transform,
            [deltas[None]],
            [self.gt_boxes.tensor],
            ((self.gt_classes >= 0) & (self.gt_classes < num_classes))[None],
            self.box_reg_loss_type,
            self.smooth_l1_beta,
        )
        return loss / len(self.gt_classes)

    smooth_l1_loss = box_reg_loss  # its name in detectron2 0.1

    def losses(self) -> dict[str, torch.Tensor]:
        """Return ``loss_cls`` and ``loss_box_reg``."""
        return {"loss_cls": self.softmax_cross_entropy_loss(), "loss_box_reg": self.box_reg_loss()}

    def predict_boxes(self) -> tuple[torch.Tensor, ...]:
        """Return per image the ``(R_i, K * B)`` or ``(R_i, B)`` boxes."""
        boxes = self.box2box_transform.apply_deltas(
            self.pred_proposal_deltas, self.proposals.tensor
        )
        return tuple(boxes.split(self.num_preds_per_image))

    def predict_probs(self) -> tuple[torch.Tensor, ...]:
        """Return per image the ``(R_i, K + 1)`` scores."""
        return F.softmax(self.pred_class_logits, dim=-1).split(self.num_preds_per_image)

    def inference(
        self, score_thresh: float, nms_thresh: float, topk_per_image: int
    ) -> tuple[list[Instances], list[torch.Tensor]]:
        """Return per image the detections, and the regions they came from."""
        return fast_rcnn_inference(
            self.predict_boxes(), self.predict_probs(), self.image_shapes,
            score_thresh, nms_thresh, topk_per_image,
        )  # fmt: skip
