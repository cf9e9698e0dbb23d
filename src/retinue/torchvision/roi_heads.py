"""The second stage, from head and predictor modules that can be replaced one by one.

Shapes
    R regions, all images together, R_i those of image i; K classes, background among them as
    class 0; S side of a pooled region, in cells.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from retinue.layers import cross_entropy
from retinue.modeling.box_regression import Box2BoxTransform, _dense_box_regression_loss
from retinue.modeling.matcher import Matcher
from retinue.modeling.roi_heads.base import (
    Features,
    Losses,
    ROIHeads,
    require_targets,
    select_foreground_proposals,
)
from retinue.modeling.roi_heads.fast_rcnn import boxes_of_class, fast_rcnn_inference
from retinue.modeling.roi_heads.keypoint_head import keypoint_rcnn_loss
from retinue.modeling.roi_heads.mask_head import mask_rcnn_inference, mask_rcnn_loss
from retinue.structures import ImageList, Instances, heatmaps_to_keypoints

__all__ = ["RoIHeads"]

_BACKGROUND = 0
_MIN_SIDE = 1e-2  # pixels; a smaller detection is none


class RoIHeads(ROIHeads):
    """Boxes, and masks and keypoints where their modules are given.

    Replace ``box_predictor``, ``mask_predictor`` or ``keypoint_predictor`` to detect other classes;
    their number is that of the predictor.

    Args:
        box_roi_pool: pools regions, as :class:`MultiScaleRoIAlign` does.
        box_head: maps pooled regions to what the predictor takes.
        box_predictor: class logits ``(R, K)`` and box deltas ``(R, K * 4)`` of each region.
        fg_iou_thresh: a proposal with at least this IoU holds an object.
        bg_iou_thresh: one below this is background; between the two it is not trained on.
        batch_size_per_image: proposals to train on, in an image.
        positive_fraction: most of them, as a fraction, that may hold an object.
        bbox_reg_weights: factors of the four box deltas.
        score_thresh: a detection's score must exceed this.
        nms_thresh: IoU above which the weaker of two detections of a class goes.
        detections_per_img: most detections in an image.
        mask_roi_pool: the same for masks; None for a model without.
        mask_head: maps pooled regions to what the predictor takes.
        mask_predictor: ``(R, K, M, M)`` logits.
        keypoint_roi_pool: the same for keypoints; None for a model without.
        keypoint_head: maps pooled regions to what the predictor takes.
        keypoint_predictor: ``(R, keypoints, H, H)`` logits.
    """

    mask_roi_pool: Any  # modules that may be replaced by anything callable
    mask_head: Any
    mask_predictor: Any
    keypoint_roi_pool: Any
    keypoint_head: Any
    keypoint_predictor: Any

    def __init__(
        self,
        *,
        box_roi_pool: nn.Module,
        box_head: nn.Module,
        box_predictor: nn.Module,
        fg_iou_thresh: float = 0.5,
        bg_iou_thresh: float = 0.5,
        batch_size_per_image: int = 512,
        positive_fraction: float = 0.25,
        bbox_reg_weights: Sequence[float] | None = None,
        score_thresh: float = 0.05,
        nms_thresh: float = 0.5,
        detections_per_img: int = 100,
        mask_roi_pool: nn.Module | None = None,
        mask_head: nn.Module | None = None,
        mask_predictor: nn.Module | None = None,
        keypoint_roi_pool: nn.Module | None = None,
        keypoint_head: nn.Module | None = None,
        keypoint_predictor: nn.Module | None = None,
    ) -> None:
        super().__init__(
            num_classes=_BACKGROUND,  # the label of what holds no object
            batch_size_per_image=batch_size_per_image,
            positive_fraction=positive_fraction,
            proposal_matcher=Matcher([bg_iou_thresh, fg_iou_thresh], [0, -1, 1]),
        )
        self.box_roi_pool = box_roi_pool
        self.box_head = box_head
        self.box_predictor = box_predictor
        x, y, width, height = bbox_reg_weights or (10.0, 10.0, 5.0, 5.0)
        self.box_coder = Box2BoxTransform(weights=(x, y, width, height))
        self.score_thresh = score_thresh
        self.nms_thresh = nms_thresh
        self.detections_per_img = detections_per_img
        self.mask_roi_pool = mask_roi_pool
        self.mask_head = mask_head
        self.mask_predictor = mask_predictor
        self.keypoint_roi_pool = keypoint_roi_pool
        self.keypoint_head = keypoint_head
        self.keypoint_predictor = keypoint_predictor

    @property
    def target_fields(self) -> list[str]:
        """What each target must have to train the branches that there are."""
        branches = {"masks": self.mask_predictor, "keypoints": self.keypoint_predictor}
        return ["boxes", "labels", *(name for name, module in branches.items() if module)]

    def forward(
        self,
        images: ImageList,
        features: Features,
        proposals: list[Instances],
        targets: list[Instances] | None = None,
    ) -> tuple[list[Instances], Losses]:
        """Detect objects in proposals, or in training compute losses.

        Args:
            images: the batch that features were computed from.
            features: ``(N, C, H, W)`` by name.
            proposals: per image, with ``proposal_boxes`` and ``objectness_logits``.
            targets: per image, in training; see :class:`GeneralizedRCNNTransform`.

        Returns:
            Per image ``pred_boxes``, ``scores``, ``pred_classes`` in [1, K - 1], ``pred_masks``,
            ``pred_keypoints`` (x, y, logit); and losses by name, none in inference.
        """
        if self.training:
            return [], self._losses(features, proposals, require_targets(targets))
        detections = self._detect(features, proposals)
        if self.mask_predictor is not None:
            mask_rcnn_inference(self._mask_logits(features, detections), detections)
        if self.keypoint_predictor is not None:
            _add_keypoints(self._keypoint_logits(features, detections), detections)
        return detections, {}

    def _losses(
        self, features: Features, proposals: list[Instances], targets: list[Instances]
    ) -> Losses:
        proposals = self.label_and_sample_proposals(proposals, targets)
        losses = self._box_losses(*self._predict(features, proposals), proposals)
        objects, _ = select_foreground_proposals(proposals, _BACKGROUND)
        if self.mask_predictor is not None:
            losses["loss_mask"] = mask_rcnn_loss(self._mask_logits(features, objects), objects)
        if self.keypoint_predictor is not None:
            logits = self._keypoint_logits(features, objects)
            losses["loss_keypoint"] = keypoint_rcnn_loss(logits, objects, normalizer=None)
        return losses

    def _predict(
        self, features: Features, proposals: list[Instances]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return class logits ``(R, K)`` and box deltas ``(R, K * 4)`` of all proposals."""
        x = _pool(self.box_roi_pool, features, proposals, "proposal_boxes")
        return self.box_predictor(self.box_head(x))

    def _box_losses(
        self, logits: torch.Tensor, deltas: torch.Tensor, proposals: list[Instances]
    ) -> Losses:
        labels = torch.cat([p.gt_classes for p in proposals])  # (R,)
        boxes = torch.cat([p.proposal_boxes.tensor for p in proposals])  # (R, 4)
        gt_boxes = torch.cat(
            [(p.gt_boxes if p.has("gt_boxes") else p.proposal_boxes).tensor for p in proposals]
        )
        loss_box_reg = _dense_box_regression_loss(
            [boxes],
            self.box_coder,
            [boxes_of_class(deltas, labels, 4)[None]],
            [gt_boxes],
            (labels != _BACKGROUND)[None],
            smooth_l1_beta=1 / 9,
        )
        return {
            "loss_classifier": cross_entropy(logits, labels),
            "loss_box_reg": loss_box_reg / max(len(labels), 1),
        }

    def _detect(self, features: Features, proposals: list[Instances]) -> list[Instances]:
        logits, deltas = self._predict(features, proposals)
        boxes = torch.cat([p.proposal_boxes.tensor for p in proposals])
        boxes = self.box_coder.apply_deltas(deltas, boxes)[:, 4:]  # without those of background
        scores = _at_least_float32(logits).softmax(dim=1).roll(-1, dims=1)  # background goes last
        num_rows = [len(p) for p in proposals]
        is_tiny = _is_tiny(boxes, proposals)  # (R, K - 1)
        scores = torch.cat((scores[:, :-1].masked_fill(is_tiny, -1.0), scores[:, -1:]), dim=1)
        detections, _ = fast_rcnn_inference(
            boxes.split(num_rows),
            scores.split(num_rows),
            [p.image_size for p in proposals],
            self.score_thresh,
            self.nms_thresh,
            self.detections_per_img,
        )
        for found in detections:
            found.pred_classes = found.pred_classes + 1
        return detections

    def _mask_logits(self, features: Features, instances: list[Instances]) -> torch.Tensor:
        x = _pool(self.mask_roi_pool, features, instances, self._box_field)
        return self.mask_predictor(self.mask_head(x))

    def _keypoint_logits(self, features: Features, instances: list[Instances]) -> torch.Tensor:
        x = _pool(self.keypoint_roi_pool, features, instances, self._box_field)
        return self.keypoint_predictor(self.keypoint_head(x))

    @property
    def _box_field(self) -> str:
        return "proposal_boxes" if self.training else "pred_boxes"


def _pool(pool: Any, features: Features, instances: list[Instances], field: str) -> torch.Tensor:
    """Pool the boxes of each image: ``(R, C, S, S)``."""
    boxes = [i.get(field).tensor for i in instances]
    return pool(features, boxes, [i.image_size for i in instances])


def _is_tiny(boxes: torch.Tensor, proposals: list[Instances]) -> torch.Tensor:
    """Tell which boxes ``(R, (K - 1) * 4)`` have, inside the image, next to no area."""
    corner = torch.cat(
        [boxes.new_tensor([p.image_size[::-1]]).expand(len(p), 2) for p in proposals]
    )
    first, last = boxes.unflatten(1, (-1, 4)).split(2, dim=2)  # (R, K - 1, 2) each
    first, last = (x.clamp(min=0).minimum(corner[:, None]) for x in (first, last))
    return (last - first < _MIN_SIDE).any(dim=2)


def _at_least_float32(logits: torch.Tensor) -> torch.Tensor:
    """Leave half precision before scores are compared and places are computed."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _add_keypoints(logits: torch.Tensor, detections: list[Instances]) -> None:
    """Give each detection ``(R_i, keypoints, 3)``: x, y and the logit at the peak, in place."""
    boxes = torch.cat([d.pred_boxes.tensor for d in detections])
    keypoints = heatmaps_to_keypoints(_at_least_float32(logits.detach()), boxes)[:, :, :3]
    parts = keypoints.split([len(d) for d in detections])
    for found, part in zip(detections, parts, strict=True):
        found.pred_keypoints = part
