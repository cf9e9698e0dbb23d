"""Cascade R-CNN: box heads in a row, each refining the boxes of the one before.

Shapes
    N images; R regions, all images together, R_i those of image i; K object classes; T stages.

Cai & Vasconcelos, "Cascade R-CNN" (2018), https://arxiv.org/abs/1712.00726.
"""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn

from retinue.config import CfgNode, configurable
from retinue.layers import ShapeSpec
from retinue.modeling.box_regression import Box2BoxTransform
from retinue.modeling.catalog import ROI_HEADS_REGISTRY
from retinue.modeling.matcher import Matcher
from retinue.modeling.poolers import ROIPooler
from retinue.modeling.roi_heads.base import (
    Features,
    Losses,
    make_pooler,
    pooled_shape,
    require_targets,
)
from retinue.modeling.roi_heads.box_head import build_box_head
from retinue.modeling.roi_heads.fast_rcnn import (
    FastRCNNOutputLayers,
    Predictions,
    fast_rcnn_inference,
)
from retinue.modeling.roi_heads.roi_heads import StandardROIHeads
from retinue.structures import Boxes, ImageList, Instances
from retinue.utils.errors import InputError
from retinue.utils.events import get_event_storage, has_event_storage, log_scalars

__all__ = ["ROI_HEADS_REGISTRY", "CascadeROIHeads"]


class _ScaleGradient(torch.autograd.Function):
    """The identity, whose gradient is multiplied by a number."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, scale: float) -> torch.Tensor:
        ctx.scale = scale
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
        return grad * ctx.scale, None


class CascadeROIHeads(StandardROIHeads):
    """Heads whose box branch runs in stages, each trained on better boxes than the one before.

    Args:
        box_in_features: names of the feature maps that the box branch pools from.
        box_pooler: pools a region's features for the box heads.
        box_heads: one a stage.
        box_predictors: one a stage, like :class:`FastRCNNOutputLayers`, one box for all classes.
        proposal_matchers: one a stage; the first labels proposals, the others the boxes that the
            stage before predicted, as a rule at a higher IoU.
        **kwargs: arguments of :class:`StandardROIHeads`.

    Raises:
        InputError: If the lists differ in length, or ``proposal_matcher`` is given.
    """

    @configurable
    def __init__(
        self,
        *,
        box_in_features: list[str],
        box_pooler: ROIPooler,
        box_heads: Sequence[nn.Module],
        box_predictors: Sequence[nn.Module],
        proposal_matchers: Sequence[Matcher],
        **kwargs: Any,
    ) -> None:
        if "proposal_matcher" in kwargs:
            raise InputError(
                "CascadeROIHeads: give proposal_matchers, one a stage, not proposal_matcher"
            )
        sizes = len(box_heads), len(box_predictors), len(proposal_matchers)
        if len(set(sizes)) != 1:
            raise InputError(
                "CascadeROIHeads: box_heads, box_predictors and proposal_matchers must have one"
                f" entry a stage; got {sizes[0]}, {sizes[1]} and {sizes[2]}"
            )
        super().__init__(
            box_in_features=box_in_features,
            box_pooler=box_pooler,
            box_head=nn.ModuleList(box_heads),
            box_predictor=nn.ModuleList(box_predictors),
            proposal_matcher=proposal_matchers[0],
            **kwargs,
        )
        self.num_cascade_stages = len(box_heads)
        self.proposal_matchers = proposal_matchers

    @classmethod
    def from_config(  # type: ignore[override]
        cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]
    ) -> dict[str, Any]:
        args = super().from_config(cfg, input_shape)
        del args["proposal_matcher"]
        return args

    @classmethod
    def _init_box_head(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> dict[str, Any]:
        """Build the arguments of the box branch."""
        _check_config(cfg)
        in_features = cfg.MODEL.ROI_HEADS.IN_FEATURES
        head, cascade = cfg.MODEL.ROI_BOX_HEAD, cfg.MODEL.ROI_BOX_CASCADE_HEAD
        shape = pooled_shape(head, input_shape, in_features)
        box_heads, box_predictors = [], []
        for _, weights in zip(cascade.IOUS, cascade.BBOX_REG_WEIGHTS, strict=True):
            box_head = build_box_head(cfg, shape)  # stage by stage, in detectron2's order of draws
            box_heads.append(box_head)
            predictor = FastRCNNOutputLayers(  # type: ignore[call-arg,misc]
                cfg, box_head.output_shape, box2box_transform=Box2BoxTransform(weights=weights)
            )
            box_predictors.append(predictor)
        return {
            "box_in_features": in_features,
            "box_pooler": make_pooler(head, input_shape, in_features),
            "box_heads": box_heads,
            "box_predictors": box_predictors,
            "proposal_matchers": [
                Matcher([iou], [0, 1], allow_low_quality_matches=False) for iou in cascade.IOUS
            ],
        }

    def forward(
        self,
        images: ImageList,
        features: Features,
        proposals: list[Instances],
        targets: list[Instances] | None = None,
    ) -> tuple[list[Instances], Losses]:
        """See :meth:`ROIHeads.forward`."""
        if self.training:
            proposals = self.label_and_sample_proposals(proposals, require_targets(targets))
            losses = self._forward_box(features, proposals, targets)
            losses.update(self._forward_mask(features, proposals))
            losses.update(self._forward_keypoint(features, proposals))
            return proposals, losses
        detections = self._forward_box(features, proposals)
        return self.forward_with_given_boxes(features, detections), {}

    def _forward_box(
        self,
        features: Features,
        proposals: list[Instances],
        targets: Any = None,
    ) -> Any:
        """Return losses in training, which needs targets; detections of each image otherwise."""
        maps = [features[f] for f in self.box_in_features]
        image_sizes = [p.image_size for p in proposals]
        outputs: list[tuple[Any, Predictions, list[Instances]]] = []
        boxes: Sequence[torch.Tensor] = []  # per image (R_i, 4), of the stage before
        for stage, predictor in enumerate(self.box_predictor):
            if stage > 0:
                proposals = self._create_proposals_from_boxes(boxes, image_sizes)
                if self.training:
                    proposals = self._match_and_label_boxes(proposals, stage, targets)
            predictions = self._run_stage(maps, proposals, stage)
            boxes = predictor.predict_boxes(predictions, proposals)
            outputs.append((predictor, predictions, proposals))
        return self._stage_losses(outputs) if self.training else self._detect(outputs, boxes)

    def _run_stage(
        self, features: list[torch.Tensor], proposals: list[Instances], stage: int
    ) -> Predictions:
        """Predict from proposals by the heads of a stage."""
        x = self.box_pooler(features, [p.proposal_boxes for p in proposals])  # (R, C, S, S)
        if self.training:  # the features learn from the mean of the stages, heads from their own
            x = _ScaleGradient.apply(x, 1.0 / self.num_cascade_stages)
        return self.box_predictor[stage](self.box_head[stage](x))

    def _create_proposals_from_boxes(
        self, boxes: Sequence[torch.Tensor], image_sizes: Sequence[tuple[int, int]]
    ) -> list[Instances]:
        """Make proposals, without gradient and inside the image, of predicted boxes.

        Boxes without area leave in training; in inference all stay, since the scores of the stages
        are averaged row by row.
        """
        proposals = []
        for box, size in zip(boxes, image_sizes, strict=True):
            inside = Boxes(box.detach())
            inside.clip(size)
            if self.training:
                inside = inside[inside.nonempty()]
            proposals.append(Instances(size, proposal_boxes=inside))
        return proposals

    @torch.no_grad()
    def _match_and_label_boxes(
        self, proposals: list[Instances], stage: int, targets: list[Instances]
    ) -> list[Instances]:
        """Give proposals of a stage ``gt_classes`` in [0, K] and ``gt_boxes``, in place."""
        for proposal, target in zip(proposals, targets, strict=True):
            iou = self.pairwise_iou(target.gt_boxes, proposal.proposal_boxes)  # (G_i, R_i)
            matched, is_object = self.proposal_matchers[stage](iou)
            labels = torch.full_like(matched, self.num_classes)
            boxes = Boxes(torch.zeros_like(proposal.proposal_boxes.tensor))
            if len(target):
                labels = torch.where(is_object == 0, labels, target.gt_classes[matched])
                boxes = target.gt_boxes[matched]
            proposal.gt_classes, proposal.gt_boxes = labels, boxes
        num_objects = sum((p.gt_classes != self.num_classes).sum() for p in proposals)
        num_proposals = sum(len(p) for p in proposals)
        log_scalars(
            {
                f"stage{stage}/roi_head/num_fg_samples": num_objects / len(proposals),
                f"stage{stage}/roi_head/num_bg_samples": (num_proposals - num_objects)
                / len(proposals),
            }
        )
        return proposals

    def _stage_losses(self, outputs: Sequence[tuple[Any, Predictions, list[Instances]]]) -> Losses:
        """Return the losses of all stages, named ``loss_cls_stage0`` and so on."""
        losses: Losses = {}
        for stage, (predictor, predictions, proposals) in enumerate(outputs):
            scope = (
                get_event_storage().name_scope(f"stage{stage}")
                if has_event_storage()
                else nullcontext()
            )
            with scope:
                of_stage = predictor.losses(predictions, proposals)
            losses |= {f"{name}_stage{stage}": loss for name, loss in of_stage.items()}
        return losses

    def _detect(
        self,
        outputs: Sequence[tuple[Any, Predictions, list[Instances]]],
        boxes: Sequence[torch.Tensor],
    ) -> list[Instances]:
        """Detect by the boxes of the last stage and the mean score of all."""
        scores = [predictor.predict_probs(pred, props) for predictor, pred, props in outputs]
        predictor, _, proposals = outputs[-1]
        detections, _ = fast_rcnn_inference(
            boxes,
            [torch.stack(of_image).mean(dim=0) for of_image in zip(*scores, strict=True)],
            [p.image_size for p in proposals],
            predictor.test_score_thresh,
            predictor.test_nms_thresh,
            predictor.test_topk_per_image,
        )
        return detections


def _check_config(cfg: CfgNode) -> None:
    cascade = cfg.MODEL.ROI_BOX_CASCADE_HEAD
    if len(cascade.BBOX_REG_WEIGHTS) != len(cascade.IOUS):
        raise InputError(
            "MODEL.ROI_BOX_CASCADE_HEAD: IOUS and BBOX_REG_WEIGHTS must have one entry a stage;"
            f" got {len(cascade.IOUS)} and {len(cascade.BBOX_REG_WEIGHTS)}"
        )
    if not cfg.MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG:
        raise InputError(
            "CascadeROIHeads: a stage passes one box a region to the next; set"
            " MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG True"
        )
    if cascade.IOUS[0] != cfg.MODEL.ROI_HEADS.IOU_THRESHOLDS[0]:
        raise InputError(
            "CascadeROIHeads: the first stage takes sampled proposals, so the first of"
            " MODEL.ROI_BOX_CASCADE_HEAD.IOUS and of MODEL.ROI_HEADS.IOU_THRESHOLDS must be the"
            f" same; got {cascade.IOUS[0]} and {cfg.MODEL.ROI_HEADS.IOU_THRESHOLDS[0]}"
        )
