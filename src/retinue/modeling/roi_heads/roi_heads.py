"""The second stage of an R-CNN: label proposals, pool their features, run the heads.

Shapes
    N images; R_i proposals and G_i objects of image i; K object classes, the label K is
    background; C, H, W channels, rows and columns of a feature map.

Reading order: StandardROIHeads.forward, then ROIHeads.label_and_sample_proposals in base.py, which
makes the training targets; Res5ROIHeads is the older form, whose heads share one trunk.
"""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from retinue.config import CfgNode, configurable
from retinue.layers import ShapeSpec
from retinue.modeling.backbone.resnet import BottleneckBlock, ResNet
from retinue.modeling.catalog import ROI_HEADS_REGISTRY
from retinue.modeling.poolers import ROIPooler
from retinue.modeling.roi_heads.base import (
    Features,
    Losses,
    ROIHeads,
    check_given_boxes,
    make_pooler,
    pooled_shape,
    require_targets,
    select_foreground_proposals,
    select_proposals_with_visible_keypoints,
)
from retinue.modeling.roi_heads.box_head import build_box_head
from retinue.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers
from retinue.modeling.roi_heads.keypoint_head import build_keypoint_head
from retinue.modeling.roi_heads.mask_head import build_mask_head
from retinue.structures import Boxes, ImageList, Instances
from retinue.utils.errors import InputError

__all__ = [
    "ROI_HEADS_REGISTRY",
    "ROIHeads",
    "Res5ROIHeads",
    "StandardROIHeads",
    "build_roi_heads",
    "select_foreground_proposals",
    "select_proposals_with_visible_keypoints",
]


def build_roi_heads(cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> nn.Module:
    """Build the heads that ``cfg.MODEL.ROI_HEADS.NAME`` names."""
    return ROI_HEADS_REGISTRY.get(cfg.MODEL.ROI_HEADS.NAME)(cfg, input_shape)


class Res5ROIHeads(ROIHeads):
    """Heads that share the last stage of a ResNet, which runs on each pooled region: "C4" models.

    He et al., "Deep Residual Learning" (2016), appendix A, https://arxiv.org/abs/1512.03385.

    Args:
        in_features: name of the one feature map to pool from, in a list.
        pooler: pools regions from it.
        res5: maps pooled regions to what the predictors take; a module, or blocks in a list.
        box_predictor: like :class:`FastRCNNOutputLayers`, over the mean of a region's cells.
        mask_head: like :class:`BaseMaskRCNNHead`; None for boxes alone.
        **kwargs: arguments of :class:`ROIHeads`.
    """

    pooler: Any
    res5: Any
    box_predictor: Any
    mask_head: Any

    @configurable
    def __init__(
        self,
        *,
        in_features: list[str],
        pooler: ROIPooler,
        res5: nn.Module | Sequence[nn.Module],
        box_predictor: nn.Module,
        mask_head: nn.Module | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.in_features = in_features
        self.pooler = pooler
        self.res5 = nn.Sequential(*res5) if isinstance(res5, list | tuple) else res5
        self.box_predictor = box_predictor
        self.mask_on = mask_head is not None
        if self.mask_on:
            self.mask_head = mask_head

    @classmethod
    def from_config(  # type: ignore[override]
        cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]
    ) -> dict[str, Any]:
        args = super().from_config(cfg)
        in_features = cfg.MODEL.ROI_HEADS.IN_FEATURES
        if cfg.MODEL.KEYPOINT_ON or len(in_features) != 1:
            raise InputError(
                "Res5ROIHeads: expected MODEL.KEYPOINT_ON False and one name in"
                f" MODEL.ROI_HEADS.IN_FEATURES; got {cfg.MODEL.KEYPOINT_ON} and {in_features};"
                " StandardROIHeads takes keypoints and several feature maps"
            )
        build: Any = cls._build_res5_block
        # Early projects define it on the instance, without using that.
        res5, channels = build(cfg) if inspect.ismethod(build) else build(cls, cfg)
        args |= {
            "in_features": in_features,
            "pooler": make_pooler(cfg.MODEL.ROI_BOX_HEAD, input_shape, in_features),
            "res5": res5,
            "box_predictor": FastRCNNOutputLayers(  # type: ignore[call-arg]
                cfg, ShapeSpec(channels=channels, height=1, width=1)
            ),
        }
        if cfg.MODEL.MASK_ON:
            side = cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION
            shape = ShapeSpec(channels=channels, height=side, width=side)
            args["mask_head"] = build_mask_head(cfg, shape)
        return args

    @classmethod
    def _build_res5_block(cls, cfg: CfgNode) -> tuple[nn.Sequential, int]:
        """Build the last stage of the ResNet that ``cfg.MODEL.RESNETS`` describes."""
        resnet = cfg.MODEL.RESNETS
        if resnet.DEFORM_ON_PER_STAGE[-1]:
            raise InputError(
                "Res5ROIHeads: the last of MODEL.RESNETS.DEFORM_ON_PER_STAGE must be False;"
                f" got {resnet.DEFORM_ON_PER_STAGE}"
            )
        out_channels = 8 * resnet.RES2_OUT_CHANNELS  # each stage after res2 doubles the width
        blocks = ResNet.make_stage(
            BottleneckBlock,
            3,
            stride_per_block=[2, 1, 1],
            in_channels=out_channels // 2,
            out_channels=out_channels,
            bottleneck_channels=8 * resnet.NUM_GROUPS * resnet.WIDTH_PER_GROUP,
            num_groups=resnet.NUM_GROUPS,
            norm=resnet.NORM,
            stride_in_1x1=resnet.STRIDE_IN_1X1,
        )
        return nn.Sequential(*blocks), out_channels

    def forward(
        self,
        images: ImageList,
        features: Features,
        proposals: list[Instances],
        targets: list[Instances] | None = None,
    ) -> tuple[list[Instances], Losses]:
        """See :meth:`ROIHeads.forward`; in training no proposals are returned."""
        if self.training:
            proposals = self.label_and_sample_proposals(proposals, require_targets(targets))
        x = self._shared_roi_transform(
            [features[f] for f in self.in_features], [p.proposal_boxes for p in proposals]
        )  # (R, D, S, S)
        predictions = self.box_predictor(x.mean(dim=(2, 3)))
        if not self.training:
            detections, _ = self.box_predictor.inference(predictions, proposals)
            return self.forward_with_given_boxes(features, detections), {}

        losses = self.box_predictor.losses(predictions, proposals)
        if self.mask_on:
            proposals, masks = select_foreground_proposals(proposals, self.num_classes)
            losses.update(self.mask_head(x[torch.cat(masks)], proposals))
        return [], losses

    def _shared_roi_transform(
        self, features: list[torch.Tensor], boxes: list[Boxes]
    ) -> torch.Tensor:
        return self.res5(self.pooler(features, boxes))

    def forward_with_given_boxes(
        self, features: Features, instances: list[Instances]
    ) -> list[Instances]:
        """Add masks to detections whose boxes are known.

        Args:
            features: ``(N, C, H, W)`` by name.
            instances: per image, with ``pred_boxes`` and ``pred_classes``.
        """
        check_given_boxes(self, instances)
        if not self.mask_on:
            return instances
        x = self._shared_roi_transform(
            [features[f] for f in self.in_features], [i.pred_boxes for i in instances]
        )
        return self.mask_head(x, instances)


class StandardROIHeads(ROIHeads):
    """Heads that each pool their own features: boxes, and masks and keypoints if wanted.

    To change one branch, override ``_forward_box``, ``_forward_mask`` or ``_forward_keypoint``, or
    how it is built from a config, ``_init_box_head`` and its like.

    Args:
        box_in_features: names of the feature maps that the box branch pools from.
        box_pooler: pools a region's features for the box head.
        box_head: maps pooled features to what the predictor takes.
        box_predictor: like :class:`FastRCNNOutputLayers`.
        mask_in_features: the same for masks; None for a model without.
        mask_pooler: None hands the head the feature maps themselves, by name.
        mask_head: like :class:`BaseMaskRCNNHead`.
        keypoint_in_features: the same for keypoints; None for a model without.
        keypoint_pooler: None hands the head the feature maps themselves, by name.
        keypoint_head: like :class:`BaseKeypointRCNNHead`.
        train_on_pred_boxes: train masks and keypoints on the boxes that the box branch predicts,
            instead of on proposals.
        **kwargs: arguments of :class:`ROIHeads`.
    """

    box_pooler: Any  # modules that may be replaced by anything callable
    box_head: Any
    box_predictor: Any
    mask_in_features: Any
    mask_pooler: Any
    mask_head: Any
    keypoint_in_features: Any
    keypoint_pooler: Any
    keypoint_head: Any

    @configurable
    def __init__(
        self,
        *,
        box_in_features: list[str],
        box_pooler: ROIPooler,
        box_head: nn.Module,
        box_predictor: nn.Module,
        mask_in_features: list[str] | None = None,
        mask_pooler: ROIPooler | None = None,
        mask_head: nn.Module | None = None,
        keypoint_in_features: list[str] | None = None,
        keypoint_pooler: ROIPooler | None = None,
        keypoint_head: nn.Module | None = None,
        train_on_pred_boxes: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.train_on_pred_boxes = train_on_pred_boxes
        self.box_pooler = box_pooler
        self.box_head = box_head
        self.box_predictor = box_predictor
        self.box_in_features = self.in_features = box_in_features
        self.mask_on = mask_in_features is not None
        self.keypoint_on = keypoint_in_features is not None
        if self.mask_on:
            self.mask_pooler = mask_pooler
            self.mask_head = mask_head
            self.mask_in_features = mask_in_features
        if self.keypoint_on:
            self.keypoint_pooler = keypoint_pooler
            self.keypoint_head = keypoint_head
            self.keypoint_in_features = keypoint_in_features

    @classmethod
    def from_config(  # type: ignore[override]
        cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]
    ) -> dict[str, Any]:
        args = super().from_config(cfg)
        args["train_on_pred_boxes"] = cfg.MODEL.ROI_BOX_HEAD.TRAIN_ON_PRED_BOXES
        for build in (cls._init_box_head, cls._init_mask_head, cls._init_keypoint_head):
            if inspect.ismethod(build):  # early projects define them on the instance and call them
                args |= build(cfg, input_shape)
        return args

    @classmethod
    def _init_box_head(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> dict[str, Any]:
        """Build the arguments of the box branch."""
        in_features = cfg.MODEL.ROI_HEADS.IN_FEATURES
        head = cfg.MODEL.ROI_BOX_HEAD
        box_head = build_box_head(cfg, pooled_shape(head, input_shape, in_features))
        return {
            "box_in_features": in_features,
            "box_pooler": make_pooler(head, input_shape, in_features),
            "box_head": box_head,
            "box_predictor": FastRCNNOutputLayers(  # type: ignore[call-arg]
                cfg, box_head.output_shape
            ),
        }

    @classmethod
    def _init_mask_head(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> dict[str, Any]:
        """Build the arguments of the mask branch; none if there is to be none."""
        if not cfg.MODEL.MASK_ON:
            return {}
        in_features = cfg.MODEL.ROI_HEADS.IN_FEATURES
        head = cfg.MODEL.ROI_MASK_HEAD
        return {
            "mask_in_features": in_features,
            "mask_pooler": make_pooler(head, input_shape, in_features),
            "mask_head": build_mask_head(cfg, pooled_shape(head, input_shape, in_features)),
        }

    @classmethod
    def _init_keypoint_head(
        cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]
    ) -> dict[str, Any]:
        """Build the arguments of the keypoint branch; none if there is to be none."""
        if not cfg.MODEL.KEYPOINT_ON:
            return {}
        in_features = cfg.MODEL.ROI_HEADS.IN_FEATURES
        head = cfg.MODEL.ROI_KEYPOINT_HEAD
        shape = pooled_shape(head, input_shape, in_features)
        return {
            "keypoint_in_features": in_features,
            "keypoint_pooler": make_pooler(head, input_shape, in_features),
            "keypoint_head": build_keypoint_head(cfg, shape),
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
            losses = self._forward_box(features, proposals)  # may replace proposal_boxes
            losses.update(self._forward_mask(features, proposals))
            losses.update(self._forward_keypoint(features, proposals))
            return proposals, losses
        detections = self._forward_box(features, proposals)
        return self.forward_with_given_boxes(features, detections), {}

    def forward_with_given_boxes(
        self, features: Features, instances: list[Instances]
    ) -> list[Instances]:
        """Add masks and keypoints to detections whose boxes are known.

        Args:
            features: ``(N, C, H, W)`` by name.
            instances: per image, with ``pred_boxes`` and ``pred_classes``.

        Returns:
            The same objects, with ``pred_masks``, ``pred_keypoints``.
        """
        check_given_boxes(self, instances)
        instances = self._forward_mask(features, instances)
        return self._forward_keypoint(features, instances)

    def _forward_box(self, features: Features, proposals: list[Instances]) -> Any:
        """Return losses in training, detections of each image otherwise."""
        x = self.box_pooler(
            [features[f] for f in self.box_in_features], [p.proposal_boxes for p in proposals]
        )  # (R, C, S, S)
        predictions = self.box_predictor(self.box_head(x))
        if not self.training:
            return self.box_predictor.inference(predictions, proposals)[0]
        losses = self.box_predictor.losses(predictions, proposals)
        if self.train_on_pred_boxes:
            with torch.no_grad():
                boxes = self.box_predictor.predict_boxes_for_gt_classes(predictions, proposals)
            for proposal, box in zip(proposals, boxes, strict=True):
                proposal.proposal_boxes = Boxes(box)
        return losses

    def _forward_mask(self, features: Features, instances: list[Instances]) -> Any:
        """Return losses in training, the detections with masks otherwise."""
        if not self.mask_on:
            return {} if self.training else instances
        if self.training:
            instances, _ = select_foreground_proposals(instances, self.num_classes)
        x = self._pool(self.mask_pooler, self.mask_in_features, features, instances)
        return self.mask_head(x, instances)

    def _forward_keypoint(self, features: Features, instances: list[Instances]) -> Any:
        """Return losses in training, the detections with keypoints otherwise."""
        if not self.keypoint_on:
            return {} if self.training else instances
        if self.training:
            objects, _ = select_foreground_proposals(instances, self.num_classes)
            instances = select_proposals_with_visible_keypoints(objects)
        x = self._pool(self.keypoint_pooler, self.keypoint_in_features, features, instances)
        return self.keypoint_head(x, instances)

    def _pool(
        self,
        pooler: ROIPooler | None,
        in_features: list[str],
        features: Features,
        instances: list[Instances],
    ) -> torch.Tensor | dict[str, torch.Tensor]:
        """Pool ``(R, C, S, S)`` for a head that follows the boxes; without pooler, hand maps on."""
        if pooler is None:
            return {f: features[f] for f in in_features}
        boxes = [i.proposal_boxes if self.training else i.pred_boxes for i in instances]
        return pooler([features[f] for f in in_features], boxes)
