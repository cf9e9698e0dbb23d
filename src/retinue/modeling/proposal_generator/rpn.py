"""Region proposal network: which anchors hold an object, and how to move them onto it.

Shapes
    N images; L levels; A anchors at each place; R_l = H_l * W_l * A anchors on level l and R on all
    levels, ordered row, column, anchor; B numbers a box (4, or 5 when rotated).

Units
    Boxes are in pixels of the network input.

Reading order: RPN.forward is the figure of the paper; StandardRPNHead predicts; in training
label_and_sample_anchors and losses follow; predict_proposals turns predictions into proposals.

Source: Ren et al., "Faster R-CNN" (2015), https://arxiv.org/abs/1506.01497.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import nn

from retinue.config import configurable
from retinue.layers import Conv2d, ShapeSpec
from retinue.modeling.anchor_generator import build_anchor_generator
from retinue.modeling.box_regression import Box2BoxTransform, _dense_box_regression_loss
from retinue.modeling.catalog import PROPOSAL_GENERATOR_REGISTRY, RPN_HEAD_REGISTRY
from retinue.modeling.config_fit import check_features
from retinue.modeling.matcher import Matcher
from retinue.modeling.proposal_generator.proposal_utils import best_per_level, top_proposals
from retinue.modeling.sampling import subsample_labels
from retinue.structures import Boxes, ImageList, Instances, pairwise_iou
from retinue.utils.errors import InputError
from retinue.utils.events import log_scalars

if TYPE_CHECKING:
    from retinue.config import CfgNode

__all__ = [
    "PROPOSAL_GENERATOR_REGISTRY",
    "RPN",
    "RPN_HEAD_REGISTRY",
    "StandardRPNHead",
    "build_rpn_head",
]


def build_rpn_head(cfg: CfgNode, input_shape: list[ShapeSpec]) -> nn.Module:
    """Build ``cfg.MODEL.RPN.HEAD_NAME`` for feature maps of these shapes."""
    return RPN_HEAD_REGISTRY.get(cfg.MODEL.RPN.HEAD_NAME)(cfg, input_shape)


class StandardRPNHead(nn.Module):
    """3x3 convolutions, then one 1x1 convolution for objectness and one for box deltas.

    The same weights serve every level.

    Args:
        in_channels: channels of the feature maps.
        num_anchors: anchors at each place.
        box_dim: numbers a box: 4, or 5 when rotated.
        conv_dims: output channels of each 3x3 convolution; -1 keeps the number.

    Raises:
        InputError: If ``conv_dims`` is empty or holds something else.
    """

    @configurable
    def __init__(
        self,
        *,
        in_channels: int,
        num_anchors: int,
        box_dim: int = 4,
        conv_dims: Sequence[int] = (-1,),
    ) -> None:
        super().__init__()
        if not conv_dims or any(dim <= 0 and dim != -1 for dim in conv_dims):
            raise InputError(
                "StandardRPNHead: conv_dims must hold numbers of channels, or -1 to keep them;"
                f" got {list(conv_dims)}"
            )
        channels = in_channels
        convs = nn.Sequential()
        for i, dim in enumerate(conv_dims):
            out_channels = channels if dim == -1 else dim
            convs.add_module(f"conv{i}", self._get_rpn_conv(channels, out_channels))
            channels = out_channels
        # Checkpoints call a single convolution "conv", several "conv.conv0", "conv.conv1", ...
        self.conv = convs if len(convs) > 1 else convs[0]
        self.objectness_logits = nn.Conv2d(channels, num_anchors, kernel_size=1)
        self.anchor_deltas = nn.Conv2d(channels, num_anchors * box_dim, kernel_size=1)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d) and layer.bias is not None:
                nn.init.normal_(layer.weight, std=0.01)
                nn.init.zeros_(layer.bias)

    def _get_rpn_conv(self, in_channels: int, out_channels: int) -> Conv2d:
        return Conv2d(in_channels, out_channels, kernel_size=3, padding=1, activation=nn.ReLU())

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: list[ShapeSpec]) -> dict[str, Any]:
        anchor_generator: Any = build_anchor_generator(cfg, input_shape)
        return {
            "in_channels": _one_value("channels", [shape.channels for shape in input_shape]),
            "num_anchors": _one_value("anchors at each place", anchor_generator.num_anchors),
            "box_dim": anchor_generator.box_dim,
            "conv_dims": cfg.MODEL.RPN.CONV_DIMS,
        }

    def forward(
        self, features: Sequence[torch.Tensor]
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Map ``(N, C, H_l, W_l)`` features to logits ``(N, A, ...)``, deltas ``(N, A * B, ...)``.

        Both are lists with one tensor for each level.
        """
        hidden = [self.conv(x) for x in features]
        return [self.objectness_logits(x) for x in hidden], [self.anchor_deltas(x) for x in hidden]


def _one_value(what: str, values: Sequence[Any]) -> int:
    if len(set(values)) != 1:
        raise InputError(
            f"StandardRPNHead: every level needs the same number of {what}; got {list(values)}"
        )
    return values[0]


class RPN(nn.Module):
    """Anchors, a head that scores and moves them, and the choice of the best boxes.

    Args:
        in_features: names of the feature maps to use, finest first.
        head: maps the feature maps to logits and deltas, see ``StandardRPNHead``.
        anchor_generator: makes the anchors of the feature maps.
        anchor_matcher: labels anchors by IoU: 1 object, 0 background, -1 ignored.
        box2box_transform: turns deltas and anchors into boxes, and back.
        batch_size_per_image: how many anchors of an image are trained on.
        positive_fraction: how many of them may be objects.
        pre_nms_topk: boxes of a level before suppression, in (training, inference).
        post_nms_topk: proposals of an image, in (training, inference).
        nms_thresh: IoU above which the box with the lower score is suppressed.
        min_box_size: both sides of a proposal are longer than this, in pixels.
        anchor_boundary_thresh: if not negative, anchors that reach further out of the image, in
            pixels, are ignored in training.
        loss_weight: of both losses, or by name: ``loss_rpn_cls``, ``loss_rpn_loc``.
        box_reg_loss_type: ``"smooth_l1"``, ``"giou"``, ``"diou"`` or ``"ciou"``.
        smooth_l1_beta: where that loss turns from square to linear; 0 is plain L1.

    Raises:
        InputError: If the anchors don't fit the feature maps or the head.
    """

    @configurable
    def __init__(
        self,
        *,
        in_features: Sequence[str],
        head: nn.Module,
        anchor_generator: Any,
        anchor_matcher: Matcher,
        box2box_transform: Any,
        batch_size_per_image: int,
        positive_fraction: float,
        pre_nms_topk: tuple[int, int],
        post_nms_topk: tuple[int, int],
        nms_thresh: float = 0.7,
        min_box_size: float = 0.0,
        anchor_boundary_thresh: float = -1.0,
        loss_weight: float | dict[str, float] = 1.0,
        box_reg_loss_type: str = "smooth_l1",
        smooth_l1_beta: float = 0.0,
    ) -> None:
        super().__init__()
        _check_anchors(in_features, head, anchor_generator)
        self.in_features = list(in_features)
        self.rpn_head, self.anchor_generator = head, anchor_generator
        # Training
        self.anchor_boundary_thresh, self.anchor_matcher = anchor_boundary_thresh, anchor_matcher
        self.batch_size_per_image = batch_size_per_image
        self.positive_fraction = positive_fraction
        self.box_reg_loss_type, self.smooth_l1_beta = box_reg_loss_type, smooth_l1_beta
        if not isinstance(loss_weight, dict):
            loss_weight = dict.fromkeys(("loss_rpn_cls", "loss_rpn_loc"), loss_weight)
        self.loss_weight = loss_weight
        # Proposals
        self.box2box_transform = box2box_transform
        self.pre_nms_topk = {True: pre_nms_topk[0], False: pre_nms_topk[1]}  # by self.training
        self.post_nms_topk = {True: post_nms_topk[0], False: post_nms_topk[1]}
        self.min_box_size, self.nms_thresh = float(min_box_size), nms_thresh

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        rpn = cfg.MODEL.RPN
        check_features("MODEL.RPN.IN_FEATURES", rpn.IN_FEATURES, input_shape)
        shapes = [input_shape[name] for name in rpn.IN_FEATURES]
        return {
            "in_features": rpn.IN_FEATURES,
            "head": build_rpn_head(cfg, shapes),
            "anchor_generator": build_anchor_generator(cfg, shapes),
            "anchor_matcher": Matcher(
                rpn.IOU_THRESHOLDS, rpn.IOU_LABELS, allow_low_quality_matches=True
            ),
            "box2box_transform": Box2BoxTransform(weights=rpn.BBOX_REG_WEIGHTS),
            "batch_size_per_image": rpn.BATCH_SIZE_PER_IMAGE,
            "positive_fraction": rpn.POSITIVE_FRACTION,
            "pre_nms_topk": (rpn.PRE_NMS_TOPK_TRAIN, rpn.PRE_NMS_TOPK_TEST),
            "post_nms_topk": (rpn.POST_NMS_TOPK_TRAIN, rpn.POST_NMS_TOPK_TEST),
            "nms_thresh": rpn.NMS_THRESH,
            "min_box_size": cfg.MODEL.PROPOSAL_GENERATOR.MIN_SIZE,
            "anchor_boundary_thresh": rpn.BOUNDARY_THRESH,
            "loss_weight": {
                "loss_rpn_cls": rpn.LOSS_WEIGHT,
                "loss_rpn_loc": rpn.BBOX_REG_LOSS_WEIGHT * rpn.LOSS_WEIGHT,
            },
            "box_reg_loss_type": rpn.BBOX_REG_LOSS_TYPE,
            "smooth_l1_beta": rpn.SMOOTH_L1_BETA,
        }

    def forward(
        self,
        images: ImageList,
        features: dict[str, torch.Tensor],
        gt_instances: list[Instances] | None = None,
    ) -> tuple[list[Instances], dict[str, torch.Tensor]]:
        """Propose boxes for each image and, in training, compute the losses.

        Args:
            images: only their sizes are used.
            features: feature maps by name, ``(N, C, H_l, W_l)`` each.
            gt_instances: one an image, with ``gt_boxes``; needed in training.

        Returns:
            for each image ``proposal_boxes`` and ``objectness_logits``, best first; and the losses
            ``loss_rpn_cls`` and ``loss_rpn_loc``, none outside training.

        Raises:
            InputError: In training without ``gt_instances``.
            FloatingPointError: In training, if predictions are not finite.
        """
        inputs = [features[name] for name in self.in_features]  # (N, C, H_l, W_l) each
        anchors = self.anchor_generator(inputs)  # R_l boxes on each level, for any image
        logits, deltas = self.rpn_head(inputs)  # (N, A, H_l, W_l) and (N, A * B, H_l, W_l) each
        logits = [x.permute(0, 2, 3, 1).flatten(1) for x in logits]  # (N, R_l) each
        box_dim = self.anchor_generator.box_dim
        deltas = [  # (N, R_l, B) each
            x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, box_dim) for x in deltas
        ]

        losses = {}
        if self.training:
            if gt_instances is None:
                raise InputError("RPN: training needs ground truth; give 'instances' in each input")
            gt_labels, gt_boxes = self.label_and_sample_anchors(anchors, gt_instances)
            losses = self.losses(anchors, logits, gt_labels, deltas, gt_boxes)
        return self.predict_proposals(anchors, logits, deltas, images.image_sizes), losses

    @torch.no_grad()
    def label_and_sample_anchors(
        self, anchors: list[Boxes], gt_instances: list[Instances]
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Say which anchors of each image are trained on, and towards which box.

        Args:
            anchors: of each level.
            gt_instances: one an image, with ``gt_boxes``.

        Returns:
            labels, ``(R,)`` an image: 1 object, 0 background, -1 not trained on; and the matched
            boxes, ``(R, B)`` an image, without meaning where the label isn't 1.
        """
        all_anchors = type(anchors[0]).cat(anchors)
        labels, matched_boxes = [], []
        for gt in gt_instances:
            matches, label = self.anchor_matcher(self._similarity(gt.gt_boxes, all_anchors))
            if self.anchor_boundary_thresh >= 0:
                inside = all_anchors.inside_box(gt.image_size, self.anchor_boundary_thresh)
                label[~inside] = -1
            labels.append(self._subsample_labels(label))
            has_boxes = len(gt) > 0
            matched_boxes.append(
                gt.gt_boxes.tensor[matches] if has_boxes else torch.zeros_like(all_anchors.tensor)
            )
        return labels, matched_boxes

    def _similarity(self, gt_boxes: Any, anchors: Any) -> torch.Tensor:
        """IoU of each annotated box with each anchor, ``(M, R)``."""
        return pairwise_iou(gt_boxes, anchors)

    def _subsample_labels(self, label: torch.Tensor) -> torch.Tensor:
        """Set all labels but those of a random sample to -1, in place."""
        positive, negative = subsample_labels(
            label, self.batch_size_per_image, self.positive_fraction, 0
        )
        label.fill_(-1)
        label[positive] = 1
        label[negative] = 0
        return label

    def losses(
        self,
        anchors: list[Boxes],
        pred_objectness_logits: list[torch.Tensor],
        gt_labels: list[torch.Tensor],
        pred_anchor_deltas: list[torch.Tensor],
        gt_boxes: list[torch.Tensor],
    ) -> dict[str, torch.Tensor]:
        """Compute the losses of the paper's eq. 1, both divided by the number of sampled anchors.

        Args:
            anchors: of each level.
            pred_objectness_logits: for each level ``(N, R_l)``.
            gt_labels: ``(R,)`` an image, see ``label_and_sample_anchors``.
            pred_anchor_deltas: for each level ``(N, R_l, B)``.
            gt_boxes: ``(R, B)`` an image.
        """
        labels = torch.stack(gt_labels)  # (N, R)
        is_object, is_sampled = labels == 1, labels >= 0
        num_images = len(gt_labels)
        log_scalars(
            {
                "rpn/num_pos_anchors": is_object.sum() / num_images,
                "rpn/num_neg_anchors": (labels == 0).sum() / num_images,
            }
        )
        loc_loss = _dense_box_regression_loss(
            anchors,
            self.box2box_transform,
            pred_anchor_deltas,
            gt_boxes,
            is_object,
            box_reg_loss_type=self.box_reg_loss_type,
            smooth_l1_beta=self.smooth_l1_beta,
        )
        logits = torch.cat(pred_objectness_logits, dim=1)[is_sampled]
        cls_loss = F.binary_cross_entropy_with_logits(
            logits, labels[is_sampled].to(logits.dtype), reduction="sum"
        )
        num_sampled = self.batch_size_per_image * num_images
        losses = {"loss_rpn_cls": cls_loss / num_sampled, "loss_rpn_loc": loc_loss / num_sampled}
        return {name: loss * self.loss_weight.get(name, 1.0) for name, loss in losses.items()}

    def predict_proposals(
        self,
        anchors: list[Boxes],
        pred_objectness_logits: list[torch.Tensor],
        pred_anchor_deltas: list[torch.Tensor],
        image_sizes: list[tuple[int, int]],
    ) -> list[Instances]:
        """Turn predictions into the proposals of each image, best first.

        Proposals are constants for what follows: no gradient flows through their coordinates.

        Args:
            anchors: of each level.
            pred_objectness_logits: for each level ``(N, R_l)``.
            pred_anchor_deltas: for each level ``(N, R_l, B)``.
            image_sizes: (height, width) of each image.
        """
        num_images, _, box_dim = pred_anchor_deltas[0].shape
        with torch.no_grad():
            scores, level, deltas, sources = best_per_level(
                pred_objectness_logits,
                self.pre_nms_topk[self.training],
                pred_anchor_deltas,
                [boxes.tensor.expand(num_images, -1, -1) for boxes in anchors],
            )  # (N, K), (K,), (N, K, B), (N, K, B)
            flat = type(anchors[0])(sources.reshape(-1, box_dim)), deltas.reshape(1, -1, box_dim)
            boxes = self._decode_proposals([flat[0]], [flat[1]])[0].view_as(deltas)
            return top_proposals(
                boxes,
                scores,
                level,
                image_sizes,
                self.nms_thresh,
                self.post_nms_topk[self.training],
                self.min_box_size,
                self.training,
            )

    def _decode_proposals(
        self, anchors: list[Boxes], pred_anchor_deltas: list[torch.Tensor]
    ) -> list[torch.Tensor]:
        """Move ``R_l`` anchors by ``(N, R_l, B)`` deltas, each level: ``(N, R_l, B)`` boxes."""
        return [
            self.box2box_transform.apply_deltas(
                deltas.flatten(0, 1), boxes.tensor.repeat(len(deltas), 1)
            ).view_as(deltas)
            for boxes, deltas in zip(anchors, pred_anchor_deltas, strict=True)
        ]


def _check_anchors(in_features: Sequence[str], head: nn.Module, anchor_generator: Any) -> None:
    """Refuse anchors made for another number of levels, or for another head."""
    num_anchors = list(getattr(anchor_generator, "num_anchors", []))
    if not num_anchors:  # an anchor generator that doesn't tell
        return
    if len(num_anchors) != len(in_features):
        raise InputError(
            f"RPN: anchor_generator makes anchors for {len(num_anchors)} levels, but in_features"
            f" names {len(in_features)}: {list(in_features)}; give the generator one of strides"
            " (and one tuple of sizes, or one for all) for each of them"
        )
    if isinstance(head, StandardRPNHead):
        of_head = head.objectness_logits.out_channels
        box_dim = head.anchor_deltas.out_channels // of_head
        if {of_head} != set(num_anchors) or box_dim != anchor_generator.box_dim:
            raise InputError(
                f"RPN: the head is made for {of_head} anchors of {box_dim} numbers at each place,"
                f" but the anchor generator makes {num_anchors} (one a level) of"
                f" {anchor_generator.box_dim}; make the head with num_anchors="
                f"{num_anchors[0]}, box_dim={anchor_generator.box_dim}"
            )
