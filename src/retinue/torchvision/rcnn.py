"""Faster, Mask and Keypoint R-CNN from a backbone, anchors, poolers and a number of classes.

Shapes
    N images; C channels; M objects of an image; K classes, background counted.

Sources: Ren et al. (2015), https://arxiv.org/abs/1506.01497; He et al. (2017),
https://arxiv.org/abs/1703.06870. Arguments and results are those of torchvision's models.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from retinue.layers import ShapeSpec
from retinue.modeling.box_regression import Box2BoxTransform
from retinue.modeling.matcher import Matcher
from retinue.structures import Instances
from retinue.torchvision.anchors import AnchorGenerator, default_anchors
from retinue.torchvision.backbone import (
    channels_of,
    features_of,
    image_statistics,
    look_at_backbone,
)
from retinue.torchvision.names import take_torchvision_names
from retinue.torchvision.pooler import MultiScaleRoIAlign
from retinue.torchvision.predictors import (
    FastRCNNPredictor,
    KeypointRCNNHeads,
    KeypointRCNNPredictor,
    MaskRCNNHeads,
    MaskRCNNPredictor,
    TwoMLPHead,
)
from retinue.torchvision.roi_heads import RoIHeads
from retinue.torchvision.rpn import RegionProposalNetwork, RPNHead
from retinue.torchvision.transform import GeneralizedRCNNTransform, check_targets
from retinue.utils.errors import InputError

__all__ = ["FasterRCNN", "KeypointRCNN", "MaskRCNN"]


class FasterRCNN(nn.Module):
    """Propose boxes, then classify and refine each.

    Args:
        backbone: maps ``(N, C, H, W)`` images to a feature map or a dict of them; its attribute
            ``out_channels`` says how many channels each has, unless it is a
            ``retinue.modeling.Backbone``, whose ``output_shape`` does.
        num_classes: K; None if ``box_predictor`` is given.
        min_size: the shorter side of an image gets this many pixels.
        max_size: unless the longer side would exceed this.
        image_mean: what is subtracted from each channel; by default the backbone's attribute of
            this name, or ImageNet's.
        image_std: what each channel is then divided by; by default likewise.
        rpn_anchor_generator: by default sizes of 32 to 512 over the feature maps there are.
        rpn_head: like :class:`RPNHead`.
        rpn_pre_nms_top_n_train: boxes of a feature map before suppression.
        rpn_pre_nms_top_n_test: the same in inference.
        rpn_post_nms_top_n_train: proposals of an image.
        rpn_post_nms_top_n_test: the same in inference.
        rpn_nms_thresh: IoU above which the weaker of two proposals goes.
        rpn_fg_iou_thresh: an anchor with at least this IoU is trained towards an object.
        rpn_bg_iou_thresh: one below this is background.
        rpn_batch_size_per_image: anchors to train on, in an image.
        rpn_positive_fraction: most of them, as a fraction, that may be objects.
        rpn_score_thresh: proposals need at least this score.
        box_roi_pool: like :class:`MultiScaleRoIAlign`; by default over the feature maps named
            "0" to "3".
        box_head: maps pooled regions to what the predictor takes; by default
            :class:`TwoMLPHead`.
        box_predictor: by default :class:`FastRCNNPredictor`.
        box_score_thresh: a detection's score must exceed this.
        box_nms_thresh: IoU above which the weaker of two detections of a class goes.
        box_detections_per_img: most detections in an image.
        box_fg_iou_thresh: a proposal with at least this IoU holds an object.
        box_bg_iou_thresh: one below this is background.
        box_batch_size_per_image: proposals to train on, in an image.
        box_positive_fraction: most of them, as a fraction, that may hold an object.
        bbox_reg_weights: factors of the four box deltas; by default 10, 10, 5, 5.
        **kwargs: arguments of :class:`GeneralizedRCNNTransform`, or of the mask and keypoint
            branches of :class:`RoIHeads`.

    Raises:
        InputError: If backbone, anchors, poolers and classes don't fit together.
    """

    takes_torchvision_names = True

    def __init__(
        self,
        backbone: nn.Module,
        num_classes: int | None = None,
        min_size: int | Sequence[int] = 800,
        max_size: int = 1333,
        image_mean: Sequence[float] | None = None,
        image_std: Sequence[float] | None = None,
        rpn_anchor_generator: nn.Module | None = None,
        rpn_head: nn.Module | None = None,
        rpn_pre_nms_top_n_train: int = 2000,
        rpn_pre_nms_top_n_test: int = 1000,
        rpn_post_nms_top_n_train: int = 2000,
        rpn_post_nms_top_n_test: int = 1000,
        rpn_nms_thresh: float = 0.7,
        rpn_fg_iou_thresh: float = 0.7,
        rpn_bg_iou_thresh: float = 0.3,
        rpn_batch_size_per_image: int = 256,
        rpn_positive_fraction: float = 0.5,
        rpn_score_thresh: float = 0.0,
        box_roi_pool: nn.Module | None = None,
        box_head: nn.Module | None = None,
        box_predictor: nn.Module | None = None,
        box_score_thresh: float = 0.05,
        box_nms_thresh: float = 0.5,
        box_detections_per_img: int = 100,
        box_fg_iou_thresh: float = 0.5,
        box_bg_iou_thresh: float = 0.5,
        box_batch_size_per_image: int = 512,
        box_positive_fraction: float = 0.25,
        bbox_reg_weights: Sequence[float] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        _one_of("num_classes", num_classes, "box_predictor", box_predictor)
        branches = {k: kwargs.pop(k) for k in _BRANCHES if k in kwargs}
        image_mean, image_std = image_statistics(backbone, image_mean, image_std)
        self.transform = GeneralizedRCNNTransform(
            min_size, max_size, image_mean, image_std, **kwargs
        )
        shapes = look_at_backbone(backbone, len(image_mean))
        self.backbone = backbone
        channels = _channels(backbone)

        anchors = rpn_anchor_generator or default_anchors(len(shapes))
        if isinstance(anchors, AnchorGenerator):
            anchors = anchors.fit(shapes, "rpn_anchor_generator")
        self.rpn = RegionProposalNetwork(
            shapes,
            in_features=list(shapes),
            head=rpn_head or _rpn_head(channels, anchors),
            anchor_generator=anchors,
            anchor_matcher=Matcher(
                [rpn_bg_iou_thresh, rpn_fg_iou_thresh], [0, -1, 1], allow_low_quality_matches=True
            ),
            box2box_transform=Box2BoxTransform(weights=(1.0, 1.0, 1.0, 1.0)),
            batch_size_per_image=rpn_batch_size_per_image,
            positive_fraction=rpn_positive_fraction,
            pre_nms_topk=(rpn_pre_nms_top_n_train, rpn_pre_nms_top_n_test),
            post_nms_topk=(rpn_post_nms_top_n_train, rpn_post_nms_top_n_test),
            nms_thresh=rpn_nms_thresh,
            min_box_size=1e-3,
            smooth_l1_beta=1 / 9,
        )
        self.rpn_score_thresh = rpn_score_thresh

        box_roi_pool = _fit_pooler(box_roi_pool, 7, shapes, "box_roi_pool")
        self.roi_heads = RoIHeads(
            box_roi_pool=box_roi_pool,
            box_head=box_head or _box_head(channels, box_roi_pool),
            box_predictor=box_predictor or FastRCNNPredictor(1024, num_classes or 0),
            fg_iou_thresh=box_fg_iou_thresh,
            bg_iou_thresh=box_bg_iou_thresh,
            batch_size_per_image=box_batch_size_per_image,
            positive_fraction=box_positive_fraction,
            bbox_reg_weights=bbox_reg_weights,
            score_thresh=box_score_thresh,
            nms_thresh=box_nms_thresh,
            detections_per_img=box_detections_per_img,
            **_fit_branches(branches, shapes),
        )
        take_torchvision_names(self, "backbone.fpn.")

    def forward(
        self,
        images: Sequence[torch.Tensor],
        targets: Sequence[Mapping[str, torch.Tensor]] | None = None,
    ) -> dict[str, torch.Tensor] | list[dict[str, torch.Tensor]]:
        """Compute losses in training, else detections.

        Args:
            images: ``(C, H, W)`` each, RGB floats in [0, 1], of any size.
            targets: in training, per image ``boxes`` ``(M, 4)`` in pixels, ``labels`` ``(M,)`` in
                [1, K - 1], ``masks`` ``(M, H, W)``, ``keypoints`` ``(M, keypoints, 3)``.

        Returns:
            losses by name; or per image what :meth:`GeneralizedRCNNTransform.postprocess` says.

        Raises:
            InputError: If an image or target is missing or wrong.
        """
        if self.training:
            check_targets(targets, len(images), self.roi_heads.target_fields, self._num_classes())
        batch, truths = self.transform(images, targets if self.training else None)
        features = features_of(self.backbone, batch.tensor)  # {"0": (N, C, H, W), ...}
        proposals, rpn_losses = self.rpn(batch, features, truths)
        proposals = [self._good_enough(p) for p in proposals]
        detections, losses = self.roi_heads(batch, features, proposals, truths)
        if not self.training:
            return self.transform.postprocess(
                detections, [(i.shape[-2], i.shape[-1]) for i in images]
            )
        return losses | {
            "loss_objectness": rpn_losses["loss_rpn_cls"],
            "loss_rpn_box_reg": rpn_losses["loss_rpn_loc"],
        }

    def _num_classes(self) -> int | None:
        """K, where the box predictor tells."""
        return getattr(
            getattr(self.roi_heads.box_predictor, "cls_score", None), "out_features", None
        )

    def _good_enough(self, proposals: Instances) -> Instances:
        if self.rpn_score_thresh <= 0:
            return proposals
        return proposals[proposals.objectness_logits.sigmoid() >= self.rpn_score_thresh]


class MaskRCNN(FasterRCNN):
    """Faster R-CNN that also predicts a mask for each detection.

    Args:
        backbone: as for :class:`FasterRCNN`.
        num_classes: K; None if both predictors are given.
        mask_roi_pool: like :class:`MultiScaleRoIAlign`; by default over the maps "0" to "3".
        mask_head: by default :class:`MaskRCNNHeads`.
        mask_predictor: by default :class:`MaskRCNNPredictor`.
        **kwargs: arguments of :class:`FasterRCNN`.
    """

    def __init__(
        self,
        backbone: nn.Module,
        num_classes: int | None = None,
        *,
        mask_roi_pool: nn.Module | None = None,
        mask_head: nn.Module | None = None,
        mask_predictor: nn.Module | None = None,
        **kwargs: Any,
    ) -> None:
        _one_of("num_classes", num_classes, "mask_predictor", mask_predictor)
        super().__init__(
            backbone,
            num_classes,
            mask_roi_pool=mask_roi_pool,
            mask_head=mask_head or MaskRCNNHeads(_channels(backbone), (256,) * 4),
            mask_predictor=mask_predictor or MaskRCNNPredictor(256, 256, num_classes or 0),
            **kwargs,
        )


class KeypointRCNN(FasterRCNN):
    """Faster R-CNN that also predicts keypoints for each detection.

    Args:
        backbone: as for :class:`FasterRCNN`.
        num_classes: K; None if ``box_predictor`` is given.
        keypoint_roi_pool: like :class:`MultiScaleRoIAlign`; by default over the maps "0" to "3".
        keypoint_head: by default :class:`KeypointRCNNHeads`.
        keypoint_predictor: by default :class:`KeypointRCNNPredictor`.
        num_keypoints: keypoints of an object, 17 by default; None if ``keypoint_predictor`` is
            given.
        **kwargs: arguments of :class:`FasterRCNN`.
    """

    def __init__(
        self,
        backbone: nn.Module,
        num_classes: int | None = None,
        *,
        keypoint_roi_pool: nn.Module | None = None,
        keypoint_head: nn.Module | None = None,
        keypoint_predictor: nn.Module | None = None,
        num_keypoints: int | None = None,
        **kwargs: Any,
    ) -> None:
        if num_keypoints is None and keypoint_predictor is None:
            num_keypoints = 17
        _one_of("num_keypoints", num_keypoints, "keypoint_predictor", keypoint_predictor)
        super().__init__(
            backbone,
            num_classes,
            keypoint_roi_pool=keypoint_roi_pool,
            keypoint_head=keypoint_head or KeypointRCNNHeads(_channels(backbone), (512,) * 8),
            keypoint_predictor=keypoint_predictor or KeypointRCNNPredictor(512, num_keypoints or 0),
            **kwargs,
        )


_BRANCHES = tuple(
    f"{branch}_{part}"
    for branch in ("mask", "keypoint")
    for part in ("roi_pool", "head", "predictor")
)


def _one_of(number_name: str, number: int | None, module_name: str, module: Any) -> None:
    """Check that the number of outputs is told once: by itself or by a predictor."""
    if (number is None) == (module is None):
        raise InputError(
            f"expected either {number_name} or {module_name}, which has its own number of outputs;"
            f" got {'none of them' if module is None else 'both'}"
        )


def _channels(backbone: nn.Module) -> int:
    return channels_of(backbone) or 1  # without any, FasterRCNN says what is wrong


def _rpn_head(channels: int, anchors: Any) -> RPNHead:
    return RPNHead(channels, anchors.num_anchors[0])


def _box_head(channels: int, box_roi_pool: Any) -> TwoMLPHead:
    rows, columns = box_roi_pool.output_size
    return TwoMLPHead(channels * rows * columns, 1024)


def _fit_pooler(
    pooler: nn.Module | None, output_size: int, shapes: Mapping[str, ShapeSpec], what: str
) -> nn.Module:
    """Tell a pooler the strides; without one, pool from the maps "0" to "3" that there are."""
    if pooler is None:
        names = [name for name in shapes if name in ("0", "1", "2", "3")]
        pooler = MultiScaleRoIAlign(names or list(shapes), output_size, sampling_ratio=2)
    return pooler.fit(shapes, what) if isinstance(pooler, MultiScaleRoIAlign) else pooler


def _fit_branches(branches: dict[str, Any], shapes: Mapping[str, ShapeSpec]) -> dict[str, Any]:
    """Give the mask and keypoint branches that have a predictor a pooler that fits."""
    for branch in ("mask", "keypoint"):
        if branches.get(f"{branch}_predictor") is not None:
            name = f"{branch}_roi_pool"
            branches[name] = _fit_pooler(branches.get(name), 14, shapes, name)
    return branches
