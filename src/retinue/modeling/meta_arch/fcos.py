"""FCOS: classes, boxes and "centreness" for every place of a pyramid, without anchor shapes.

Shapes
    N images; M annotated boxes of an image; R_l = H_l * W_l places on level l, R on all levels; K
    classes.

Units
    Boxes are in pixels of the network input. A place is written as a square anchor around it, with
    the level's stride as its side. Labels are classes 0 to K - 1, and K for background.

Reading order: DenseDetector.forward runs backbone and FCOSHead, then forward_training
(label_anchors, losses) or forward_inference.

Source: Tian et al., "FCOS" (2020), https://arxiv.org/abs/2006.09214.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from retinue.layers import ShapeSpec
from retinue.layers.losses import sigmoid_focal_loss
from retinue.modeling.anchor_generator import DefaultAnchorGenerator
from retinue.modeling.backbone.backbone import Backbone
from retinue.modeling.box_regression import Box2BoxTransformLinear, _dense_box_regression_loss
from retinue.modeling.meta_arch.dense_detector import DenseDetector
from retinue.modeling.meta_arch.retinanet import RetinaNetHead, class_targets
from retinue.structures import Boxes, ImageList, Instances, pairwise_point_box_distance
from retinue.utils.events import log_scalars

__all__ = ["FCOS", "FCOSHead"]


class FCOS(DenseDetector):
    """A pyramid and a head over all its levels.

    Args:
        backbone: maps images to feature maps by name.
        head: maps feature maps to class logits, box deltas and centreness, see ``FCOSHead``.
        head_in_features: names of the feature maps for the head; by default all, finest first.
        box2box_transform: turns distances to the four sides into boxes, and back; by default in
            units of the stride.
        num_classes: K.
        center_sampling_radius: places closer than this to a box's centre, in strides, belong to it.
        focal_loss_alpha: weight of objects against background, in [0, 1].
        focal_loss_gamma: how much less well-classified places count.
        test_score_thresh: detections need a higher score.
        test_topk_candidates: boxes of a level that take part in suppression.
        test_nms_thresh: IoU above which a box of the same class with a lower score goes.
        max_detections_per_image: how many detections remain.
        pixel_mean: what is subtracted from each channel of an image.
        pixel_std: what each channel is then divided by.
    """

    def __init__(
        self,
        *,
        backbone: Backbone,
        head: nn.Module,
        head_in_features: Sequence[str] | None = None,
        box2box_transform: Any = None,
        num_classes: int,
        center_sampling_radius: float = 1.5,
        focal_loss_alpha: float = 0.25,
        focal_loss_gamma: float = 2.0,
        test_score_thresh: float = 0.2,
        test_topk_candidates: int = 1000,
        test_nms_thresh: float = 0.6,
        max_detections_per_image: int = 100,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
    ) -> None:
        super().__init__(
            backbone, head, head_in_features, pixel_mean=pixel_mean, pixel_std=pixel_std
        )
        self.num_classes = num_classes
        shapes: dict[str, Any] = backbone.output_shape()
        strides = [shapes[name].stride for name in self.head_in_features]
        self.anchor_generator = DefaultAnchorGenerator(
            sizes=[[stride] for stride in strides], aspect_ratios=[1.0], strides=strides
        )
        self.box2box_transform = box2box_transform or Box2BoxTransformLinear(normalize_by_size=True)
        # Training
        self.focal_loss_alpha, self.focal_loss_gamma = focal_loss_alpha, focal_loss_gamma
        self.center_sampling_radius = float(center_sampling_radius)
        # Inference
        self.max_detections_per_image = max_detections_per_image
        self.test_nms_thresh, self.test_score_thresh = test_nms_thresh, test_score_thresh
        self.test_topk_candidates = test_topk_candidates

    def forward_training(
        self,
        images: ImageList,
        features: list[torch.Tensor],
        predictions: Sequence[list[torch.Tensor]],
        gt_instances: list[Instances],
    ) -> dict[str, torch.Tensor]:
        """Label the places and compute the losses, by name."""
        logits, deltas, centerness = self._transpose_dense_predictions(
            predictions, [self.num_classes, 4, 1]
        )
        anchors = self.anchor_generator(features)
        gt_labels, gt_boxes = self.label_anchors(anchors, gt_instances)
        return self.losses(anchors, logits, gt_labels, deltas, gt_boxes, centerness)

    @torch.no_grad()
    def _match_anchors(self, gt_boxes: Boxes, anchors: list[Boxes]) -> torch.Tensor:
        """Rate how well each place fits each box: 0 not at all, else more for smaller boxes.

        A place fits a box if it lies inside, close to the centre, and on the level for its size:
        the farthest side is 4 to 8 strides away, with no lower bound on the finest level and no
        upper bound on the coarsest (section 3.2 of the paper).

        Returns:
            ``(M, R)`` float32.
        """
        places = Boxes.cat(anchors)
        centers = places.get_centers()  # (R, 2)
        stride = places.tensor[:, 2] - places.tensor[:, 0]  # (R,)
        nearest, farthest = stride * 4, stride * 8
        nearest[: len(anchors[0])] = 0
        farthest[len(places) - len(anchors[-1]) :] = float("inf")

        off_center = (centers - gt_boxes.get_centers()[:, None]).abs().amax(dim=2)  # (M, R)
        to_sides = pairwise_point_box_distance(centers, gt_boxes).transpose(0, 1)  # (M, R, 4)
        to_farthest = to_sides.amax(dim=2)
        fits = (
            (off_center < self.center_sampling_radius * stride)
            & (to_sides.amin(dim=2) > 0)
            & (to_farthest > nearest)
            & (to_farthest < farthest)
        )
        return fits * (1e8 - gt_boxes.area()[:, None])  # the smallest box wins

    @torch.no_grad()
    def label_anchors(
        self, anchors: list[Boxes], gt_instances: list[Instances]
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Say which class and box each place of each image is trained towards.

        Args:
            anchors: of each level.
            gt_instances: one an image, with ``gt_boxes`` and ``gt_classes``.

        Returns:
            labels, ``(R,)`` int64 an image; and the matched boxes, ``(R, 4)`` an image, without
            meaning where the label is background.
        """
        labels, matched_boxes = [], []
        for gt in gt_instances:
            if len(gt) > 0:
                quality, matches = self._match_anchors(gt.gt_boxes, anchors).max(dim=0)
                label = gt.gt_classes[matches]
                label[quality < 1e-5] = self.num_classes
                matched_boxes.append(gt.gt_boxes.tensor[matches])
            else:
                places = Boxes.cat(anchors).tensor
                label = places.new_full((len(places),), self.num_classes, dtype=torch.int64)
                matched_boxes.append(torch.zeros_like(places))
            labels.append(label)
        return labels, matched_boxes

    def losses(
        self,
        anchors: list[Boxes],
        pred_logits: list[torch.Tensor],
        gt_labels: list[torch.Tensor],
        pred_anchor_deltas: list[torch.Tensor],
        gt_boxes: list[torch.Tensor],
        pred_centerness: list[torch.Tensor],
    ) -> dict[str, torch.Tensor]:
        """Compute the losses of classes, boxes and centreness, by a running number of objects.

        Args:
            anchors: of each level.
            pred_logits: for each level ``(N, R_l, K)``.
            gt_labels: ``(R,)`` an image, see ``label_anchors``.
            pred_anchor_deltas: for each level ``(N, R_l, 4)``.
            gt_boxes: ``(R, 4)`` an image.
            pred_centerness: for each level ``(N, R_l, 1)`` logits.
        """
        labels = torch.stack(gt_labels)  # (N, R)
        is_object = labels != self.num_classes
        num_objects = is_object.sum()
        log_scalars(num_pos_anchors=num_objects / len(gt_labels))

        logits = torch.cat(pred_logits, dim=1).flatten(0, 1)  # (N * R, K)
        loss_cls = sigmoid_focal_loss(
            logits,
            class_targets(labels.flatten(), logits),
            alpha=self.focal_loss_alpha,
            gamma=self.focal_loss_gamma,
            reduction="sum",
        )
        loss_loc = _dense_box_regression_loss(
            anchors,
            self.box2box_transform,
            pred_anchor_deltas,
            gt_boxes,
            is_object,
            box_reg_loss_type="giou",
        )
        centerness = torch.cat(pred_centerness, dim=1).squeeze(dim=2)[is_object]
        targets = self.compute_ctrness_targets(anchors, gt_boxes)[is_object].to(centerness.dtype)
        loss_ctr = F.binary_cross_entropy_with_logits(centerness, targets, reduction="sum")
        normalizer = self._ema_update(
            "loss_normalizer", num_objects.clamp(min=1).to(loss_cls.dtype), 300
        )
        losses = {"loss_fcos_cls": loss_cls, "loss_fcos_loc": loss_loc, "loss_fcos_ctr": loss_ctr}
        return {name: loss / normalizer for name, loss in losses.items()}

    def compute_ctrness_targets(
        self, anchors: list[Boxes], gt_boxes: list[torch.Tensor]
    ) -> torch.Tensor:
        """How central each place is in its box: ``(N, R)`` in [0, 1], eq. 3 of the paper.

        Not a number for places outside their box.
        """
        places = Boxes.cat(anchors).tensor
        if not gt_boxes:
            return places.new_zeros(0, len(places))
        distances = torch.stack(
            [self.box2box_transform.get_deltas(places, boxes) for boxes in gt_boxes]
        )  # (N, R, 4): left, top, right, bottom
        ends = distances.unflatten(2, (2, 2))  # (N, R, end, axis)
        return (ends.amin(dim=2) / ends.amax(dim=2)).prod(dim=2).sqrt()

    def forward_inference(
        self,
        images: ImageList,
        features: list[torch.Tensor],
        predictions: Sequence[list[torch.Tensor]],
    ) -> list[Instances]:
        """Return the detections of each image, best first, in pixels of the network input.

        A score is the geometric mean of class probability and centreness, eq. 4 of the paper.
        """
        logits, deltas, centerness = self._transpose_dense_predictions(
            predictions, [self.num_classes, 4, 1]
        )
        anchors = self.anchor_generator(features)
        scores = [  # (N, R_l, K) each
            (x.sigmoid() * y.sigmoid()).sqrt() for x, y in zip(logits, centerness, strict=True)
        ]
        return [
            self.inference_single_image(
                anchors, [x[i] for x in scores], [x[i] for x in deltas], size_hw
            )
            for i, size_hw in enumerate(images.image_sizes)
        ]


class FCOSHead(RetinaNetHead):
    """A ``RetinaNetHead`` with one anchor a place, and a centreness beside each box.

    Args:
        input_shape: of each feature map; only the number of channels matters.
        conv_dims: output channels of each hidden convolution.
        **kwargs: ``num_classes``, ``norm`` and ``prior_prob``, as for ``RetinaNetHead``.
    """

    def __init__(
        self, *, input_shape: Sequence[ShapeSpec], conv_dims: Sequence[int], **kwargs: Any
    ) -> None:
        super().__init__(input_shape=input_shape, conv_dims=conv_dims, num_anchors=1, **kwargs)
        self.ctrness = nn.Conv2d(conv_dims[-1], 1, kernel_size=3, padding=1)
        bias: Any = self.ctrness.bias
        nn.init.normal_(self.ctrness.weight, std=0.01)
        nn.init.zeros_(bias)

    def forward(self, features: list[torch.Tensor]) -> tuple[list[torch.Tensor], ...]:
        """Map ``(N, C, H_l, W_l)`` to logits of K, 4 and 1 channels: classes, boxes, centreness."""
        self._check_levels(features)
        logits = [self.cls_score(self.cls_subnet(x)) for x in features]
        towards_boxes = [self.bbox_subnet(x) for x in features]
        deltas = [self.bbox_pred(x) for x in towards_boxes]
        return logits, deltas, [self.ctrness(x) for x in towards_boxes]
