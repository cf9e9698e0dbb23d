"""RetinaNet: classes and boxes for every anchor of a pyramid, trained with the focal loss.

Shapes
    N images; A anchors at each place; R_l = H_l * W_l * A anchors on level l, R on all levels; K
    classes.

Units
    Boxes are in pixels of the network input. Labels are classes 0 to K - 1, K for background, -1
    for anchors that are not trained on.

Reading order: DenseDetector.forward runs backbone and RetinaNetHead, then RetinaNet's
forward_training (label_anchors, losses) or forward_inference (inference_single_image).

Source: Lin et al., "Focal Loss for Dense Object Detection" (2017),
https://arxiv.org/abs/1708.02002.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from retinue.config import configurable
from retinue.layers import CycleBatchNormList, ShapeSpec, get_norm
from retinue.layers.losses import sigmoid_focal_loss
from retinue.modeling.anchor_generator import build_anchor_generator
from retinue.modeling.backbone.backbone import Backbone
from retinue.modeling.backbone.build import build_backbone
from retinue.modeling.box_regression import Box2BoxTransform, _dense_box_regression_loss
from retinue.modeling.catalog import META_ARCH_REGISTRY
from retinue.modeling.config_fit import check_features
from retinue.modeling.matcher import Matcher
from retinue.modeling.meta_arch.dense_detector import DenseDetector
from retinue.structures import Boxes, ImageList, Instances, pairwise_iou
from retinue.utils.errors import InputError
from retinue.utils.events import log_scalars

if TYPE_CHECKING:
    from retinue.config import CfgNode

__all__ = ["META_ARCH_REGISTRY", "RetinaNet", "RetinaNetHead", "class_targets"]

logger = logging.getLogger(__name__)


class RetinaNet(DenseDetector):
    """A pyramid, a head over all its levels, and anchors.

    Args:
        backbone: maps images to feature maps by name.
        head: maps feature maps to class logits and box deltas, see ``RetinaNetHead``.
        head_in_features: names of the feature maps for the head, finest first.
        anchor_generator: makes the anchors of the feature maps.
        box2box_transform: turns deltas and anchors into boxes, and back.
        anchor_matcher: labels anchors by IoU: 1 object, 0 background, -1 ignored.
        num_classes: K.
        focal_loss_alpha: weight of objects against background, in [0, 1].
        focal_loss_gamma: how much less well-classified anchors count.
        smooth_l1_beta: where that loss turns from square to linear; 0 is plain L1.
        box_reg_loss_type: ``"smooth_l1"``, ``"giou"``, ``"diou"`` or ``"ciou"``.
        test_score_thresh: detections need a higher score.
        test_topk_candidates: boxes of a level that take part in suppression.
        test_nms_thresh: IoU above which a box of the same class with a lower score goes.
        max_detections_per_image: how many detections remain.
        pixel_mean: what is subtracted from each channel of an image.
        pixel_std: what each channel is then divided by.
        vis_period: every how many iterations a hook draws detections; 0 for never.
        input_format: order of the channels; told to whoever draws.

    Raises:
        InputError: If the anchors don't fit the feature maps or the head.
        UnknownNameError: If the backbone has no such feature map.
    """

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        head: nn.Module,
        head_in_features: Sequence[str],
        anchor_generator: Any,
        box2box_transform: Any,
        anchor_matcher: Matcher,
        num_classes: int,
        focal_loss_alpha: float = 0.25,
        focal_loss_gamma: float = 2.0,
        smooth_l1_beta: float = 0.0,
        box_reg_loss_type: str = "smooth_l1",
        test_score_thresh: float = 0.05,
        test_topk_candidates: int = 1000,
        test_nms_thresh: float = 0.5,
        max_detections_per_image: int = 100,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        vis_period: int = 0,
        input_format: str = "BGR",
    ) -> None:
        super().__init__(
            backbone, head, head_in_features, pixel_mean=pixel_mean, pixel_std=pixel_std
        )
        self.anchor_generator, self.anchor_matcher = anchor_generator, anchor_matcher
        self.box2box_transform = box2box_transform
        self.num_classes = num_classes
        _check_parts(self)
        # Training
        self.focal_loss_alpha, self.focal_loss_gamma = focal_loss_alpha, focal_loss_gamma
        self.box_reg_loss_type, self.smooth_l1_beta = box_reg_loss_type, smooth_l1_beta
        # Inference
        self.max_detections_per_image = max_detections_per_image
        self.test_nms_thresh, self.test_score_thresh = test_nms_thresh, test_score_thresh
        self.test_topk_candidates = test_topk_candidates
        # Drawing
        self.input_format, self.vis_period = input_format, vis_period

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        retinanet = cfg.MODEL.RETINANET
        backbone = build_backbone(cfg)
        by_name = backbone.output_shape()
        check_features("MODEL.RETINANET.IN_FEATURES", retinanet.IN_FEATURES, by_name)
        shapes = [by_name[name] for name in retinanet.IN_FEATURES]
        make_head: Any = RetinaNetHead  # a configurable class takes a config, too
        return {
            "backbone": backbone,
            "head": make_head(cfg, shapes),
            "head_in_features": retinanet.IN_FEATURES,
            "anchor_generator": build_anchor_generator(cfg, shapes),
            "box2box_transform": Box2BoxTransform(weights=retinanet.BBOX_REG_WEIGHTS),
            "anchor_matcher": Matcher(
                retinanet.IOU_THRESHOLDS, retinanet.IOU_LABELS, allow_low_quality_matches=True
            ),
            "num_classes": retinanet.NUM_CLASSES,
            "focal_loss_alpha": retinanet.FOCAL_LOSS_ALPHA,
            "focal_loss_gamma": retinanet.FOCAL_LOSS_GAMMA,
            "smooth_l1_beta": retinanet.SMOOTH_L1_LOSS_BETA,
            "box_reg_loss_type": retinanet.BBOX_REG_LOSS_TYPE,
            "test_score_thresh": retinanet.SCORE_THRESH_TEST,
            "test_topk_candidates": retinanet.TOPK_CANDIDATES_TEST,
            "test_nms_thresh": retinanet.NMS_THRESH_TEST,
            "max_detections_per_image": cfg.TEST.DETECTIONS_PER_IMAGE,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "vis_period": cfg.VIS_PERIOD,
            "input_format": cfg.INPUT.FORMAT,
        }

    def forward_training(
        self,
        images: ImageList,
        features: list[torch.Tensor],
        predictions: Sequence[list[torch.Tensor]],
        gt_instances: list[Instances],
    ) -> dict[str, torch.Tensor]:
        """Label the anchors and compute the losses, by name."""
        logits, deltas = self._transpose_dense_predictions(predictions, [self.num_classes, 4])
        anchors = self.anchor_generator(features)
        gt_labels, gt_boxes = self.label_anchors(anchors, gt_instances)
        return self.losses(anchors, logits, gt_labels, deltas, gt_boxes)

    def losses(
        self,
        anchors: list[Boxes],
        pred_logits: list[torch.Tensor],
        gt_labels: list[torch.Tensor],
        pred_anchor_deltas: list[torch.Tensor],
        gt_boxes: list[torch.Tensor],
    ) -> dict[str, torch.Tensor]:
        """Compute ``loss_cls`` and ``loss_box_reg``, divided by a running number of objects.

        Args:
            anchors: of each level.
            pred_logits: for each level ``(N, R_l, K)``.
            gt_labels: ``(R,)`` an image, see ``label_anchors``.
            pred_anchor_deltas: for each level ``(N, R_l, 4)``.
            gt_boxes: ``(R, 4)`` an image.
        """
        labels = torch.stack(gt_labels)  # (N, R)
        is_object = (labels >= 0) & (labels != self.num_classes)
        is_trained = labels >= 0
        num_objects = is_object.sum()
        log_scalars(num_pos_anchors=num_objects / len(gt_labels))

        logits = torch.cat(pred_logits, dim=1)[is_trained]  # (trained anchors, K)
        targets = class_targets(labels[is_trained], logits)
        loss_cls = sigmoid_focal_loss(
            logits,
            targets,
            alpha=self.focal_loss_alpha,
            gamma=self.focal_loss_gamma,
            reduction="sum",
        )
        loss_box_reg = _dense_box_regression_loss(
            anchors,
            self.box2box_transform,
            pred_anchor_deltas,
            gt_boxes,
            is_object,
            box_reg_loss_type=self.box_reg_loss_type,
            smooth_l1_beta=self.smooth_l1_beta,
        )
        normalizer = self._ema_update(
            "loss_normalizer", num_objects.clamp(min=1).to(loss_cls.dtype), 100
        )
        return {"loss_cls": loss_cls / normalizer, "loss_box_reg": loss_box_reg / normalizer}

    @torch.no_grad()
    def label_anchors(
        self, anchors: list[Boxes], gt_instances: list[Instances]
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Say which class and box each anchor of each image is trained towards.

        Args:
            anchors: of each level.
            gt_instances: one an image, with ``gt_boxes`` and ``gt_classes``.

        Returns:
            labels, ``(R,)`` int64 an image; and the matched boxes, ``(R, 4)`` an image, without
            meaning where the label is no class.
        """
        all_anchors = Boxes.cat(anchors)
        labels, matched_boxes = [], []
        for gt in gt_instances:
            matches, kind = self.anchor_matcher(pairwise_iou(gt.gt_boxes, all_anchors))
            if len(gt) > 0:
                label = gt.gt_classes[matches]
                label[kind == 0] = self.num_classes
                label[kind == -1] = -1
                matched_boxes.append(gt.gt_boxes.tensor[matches])
            else:
                label = torch.full_like(matches, self.num_classes)
                matched_boxes.append(torch.zeros_like(all_anchors.tensor))
            labels.append(label)
        return labels, matched_boxes

    def forward_inference(
        self,
        images: ImageList,
        features: list[torch.Tensor],
        predictions: Sequence[list[torch.Tensor]],
    ) -> list[Instances]:
        """Return the detections of each image, best first, in pixels of the network input."""
        logits, deltas = self._transpose_dense_predictions(predictions, [self.num_classes, 4])
        anchors = self.anchor_generator(features)
        scores = [x.sigmoid() for x in logits]  # (N, R_l, K) each
        return [
            self.inference_single_image(
                anchors, [x[i] for x in scores], [x[i] for x in deltas], size_hw
            )
            for i, size_hw in enumerate(images.image_sizes)
        ]


def class_targets(labels: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """Turn labels ``(R,)`` in [0, K] into ``(R, K)`` ones and zeros; background (K) has no one."""
    targets = torch.zeros_like(logits)
    objects = (labels != logits.shape[1]).nonzero()[:, 0]
    targets[objects, labels[objects]] = 1
    return targets


def _check_parts(model: Any) -> None:
    """Refuse anchors that don't fit the feature maps, or a head for other anchors or classes."""
    num_anchors = list(getattr(model.anchor_generator, "num_anchors", []))
    if num_anchors and len(num_anchors) != len(model.head_in_features):
        raise InputError(
            f"RetinaNet: anchor_generator makes anchors for {len(num_anchors)} levels, but"
            f" head_in_features names {len(model.head_in_features)}: {model.head_in_features}; give"
            " the generator one of strides (and one tuple of sizes, or one for all) for each of"
            " them"
        )
    if num_anchors and isinstance(model.head, RetinaNetHead):
        of_head = (model.head.cls_score.out_channels, model.head.bbox_pred.out_channels)
        needed = (num_anchors[0] * model.num_classes, num_anchors[0] * 4)
        if of_head != needed or len(set(num_anchors)) > 1:
            raise InputError(
                f"RetinaNet: {model.num_classes} classes and {num_anchors} anchors at each place"
                f" (one a level) need a head with {needed} outputs; got {of_head}; make the head"
                f" with num_classes={model.num_classes}, num_anchors={num_anchors[0]}"
            )


class RetinaNetHead(nn.Module):
    """Two rows of 3x3 convolutions, one towards classes and one towards boxes.

    The same weights serve every level.

    Args:
        input_shape: of each feature map; only the number of channels matters.
        num_classes: K.
        num_anchors: A.
        conv_dims: output channels of each hidden convolution.
        norm: a name that ``get_norm`` knows, or a callable from channels to a module. ``"BN"`` and
            ``"SyncBN"`` keep statistics for each level apart.
        prior_prob: the score that every anchor begins with.

    Raises:
        InputError: If ``conv_dims`` or ``input_shape`` is empty.
    """

    @configurable
    def __init__(
        self,
        *,
        input_shape: Sequence[Any],
        num_classes: int,
        num_anchors: int,
        conv_dims: Sequence[int],
        norm: str | Callable[[int], nn.Module] = "",
        prior_prob: float = 0.01,
    ) -> None:
        super().__init__()
        if not conv_dims or not input_shape:
            raise InputError(
                "RetinaNetHead: at least one feature map and one hidden convolution are needed;"
                f" got {len(input_shape)} and {len(conv_dims)}"
            )
        self._num_features = len(input_shape)
        channels = [input_shape[0].channels, *conv_dims]
        norm = _norm_per_level(norm, self._num_features)
        self.cls_subnet = _conv_row(channels, norm)
        self.bbox_subnet = _conv_row(channels, norm)
        self.cls_score = nn.Conv2d(channels[-1], num_anchors * num_classes, 3, padding=1)
        self.bbox_pred = nn.Conv2d(channels[-1], num_anchors * 4, 3, padding=1)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d) and layer.bias is not None:
                nn.init.normal_(layer.weight, std=0.01)
                nn.init.zeros_(layer.bias)
        # Section 4.1 of the paper: background is rare enough to be learned without a shock.
        bias: Any = self.cls_score.bias
        nn.init.constant_(bias, -math.log((1 - prior_prob) / prior_prob))

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: list[ShapeSpec]) -> dict[str, Any]:
        anchor_generator: Any = build_anchor_generator(cfg, input_shape)
        num_anchors = anchor_generator.num_anchors
        if len(set(num_anchors)) != 1:
            raise InputError(
                "RetinaNetHead: every level needs the same number of anchors at each place;"
                f" got {list(num_anchors)}"
            )
        return {
            "input_shape": input_shape,
            "num_classes": cfg.MODEL.RETINANET.NUM_CLASSES,
            "num_anchors": num_anchors[0],
            "conv_dims": [input_shape[0].channels] * cfg.MODEL.RETINANET.NUM_CONVS,
            "norm": cfg.MODEL.RETINANET.NORM,
            "prior_prob": cfg.MODEL.RETINANET.PRIOR_PROB,
        }

    def forward(self, features: list[torch.Tensor]) -> tuple[list[torch.Tensor], ...]:
        """Map ``(N, C, H_l, W_l)`` to logits ``(N, A * K, ...)`` and deltas ``(N, A * 4, ...)``.

        Both are lists with one tensor for each level, in the order of ``features``.

        Raises:
            InputError: If there are not as many feature maps as the head was made for.
        """
        self._check_levels(features)
        logits = [self.cls_score(self.cls_subnet(x)) for x in features]
        deltas = [self.bbox_pred(self.bbox_subnet(x)) for x in features]
        return logits, deltas

    def _check_levels(self, features: list[torch.Tensor]) -> None:
        if len(features) != self._num_features:
            raise InputError(
                f"{type(self).__name__}: made for {self._num_features} feature maps; got"
                f" {len(features)}"
            )


def _norm_per_level(
    norm: str | Callable[[int], nn.Module], num_levels: int
) -> str | Callable[[int], nn.Module]:
    """Keep batch statistics of the levels apart; warn where they can't be."""
    if norm in ("BN", "SyncBN"):
        logger.info(f"RetinaNetHead: {norm} with statistics for each of {num_levels} levels.")
        bn_class = nn.BatchNorm2d if norm == "BN" else nn.SyncBatchNorm
        return lambda channels: CycleBatchNormList(
            num_levels, bn_class=bn_class, num_features=channels
        )
    if norm and "BN" in (name := type(get_norm(norm, 32)).__name__):
        logger.warning(f"RetinaNetHead: {name} mixes statistics of all levels; try 'BN' or 'GN'.")
    return norm


def _conv_row(channels: Sequence[int], norm: str | Callable[[int], nn.Module]) -> nn.Sequential:
    """Make convolutions from each number of channels to the next, with norm and ReLU."""
    layers: list[Any] = []
    for num_in, num_out in pairwise(channels):
        layers.append(nn.Conv2d(num_in, num_out, kernel_size=3, padding=1))
        if norm:
            layers.append(get_norm(norm, num_out))
        layers.append(nn.ReLU())
    return nn.Sequential(*layers)
