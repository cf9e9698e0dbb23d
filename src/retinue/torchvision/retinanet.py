"""RetinaNet from a backbone, anchors and a number of classes."""

from collections.abc import Sequence
from typing import Any, ClassVar

from torch import nn

from retinue.modeling.box_regression import Box2BoxTransform
from retinue.modeling.matcher import Matcher
from retinue.modeling.meta_arch import retinanet
from retinue.torchvision.anchors import AnchorGenerator
from retinue.torchvision.backbone import (
    NamedFeatures,
    channels_of,
    image_statistics,
    look_at_backbone,
)
from retinue.torchvision.dense import TargetsAndDicts
from retinue.torchvision.transform import GeneralizedRCNNTransform

__all__ = ["RetinaNet"]


class RetinaNet(TargetsAndDicts, retinanet.RetinaNet):
    """Classes and boxes for every anchor of every feature map.

    Lin et al., "Focal Loss for Dense Object Detection" (2017), https://arxiv.org/abs/1708.02002.

    Args:
        backbone: maps ``(N, C, H, W)`` images to a feature map or a dict of them; its attribute
            ``out_channels`` says how many channels each has.
        num_classes: labels are below it; 0 is background and never detected if no target has it.
        min_size: the shorter side of an image gets this many pixels.
        max_size: unless the longer side would exceed this.
        image_mean: what is subtracted from each channel; by default the backbone's attribute of
            this name, or ImageNet's.
        image_std: what each channel is then divided by; by default likewise.
        anchor_generator: by default three sizes an octave, from 32 pixels on.
        head: like :class:`RetinaNetHead`.
        proposal_matcher: labels anchors by IoU.
        score_thresh: a detection's score must exceed this.
        nms_thresh: IoU above which the weaker of two detections of a class goes.
        detections_per_img: most detections in an image.
        fg_iou_thresh: an anchor with at least this IoU is trained towards an object.
        bg_iou_thresh: one below this is background.
        topk_candidates: boxes of a feature map that take part in suppression.
        **kwargs: arguments of :class:`GeneralizedRCNNTransform`.

    Raises:
        InputError: If backbone, anchors and head don't fit together.
    """

    loss_names: ClassVar = {"loss_cls": "classification", "loss_box_reg": "bbox_regression"}

    def __init__(
        self,
        backbone: nn.Module,
        num_classes: int,
        min_size: int | Sequence[int] = 800,
        max_size: int = 1333,
        image_mean: Sequence[float] | None = None,
        image_std: Sequence[float] | None = None,
        anchor_generator: nn.Module | None = None,
        head: nn.Module | None = None,
        proposal_matcher: Matcher | None = None,
        score_thresh: float = 0.05,
        nms_thresh: float = 0.5,
        detections_per_img: int = 300,
        fg_iou_thresh: float = 0.5,
        bg_iou_thresh: float = 0.4,
        topk_candidates: int = 1000,
        **kwargs: Any,
    ) -> None:
        image_mean, image_std = image_statistics(backbone, image_mean, image_std)
        shapes = look_at_backbone(backbone, len(image_mean))
        channels: Any = channels_of(backbone)
        anchors: Any = anchor_generator or _default_anchors(len(shapes))
        if isinstance(anchors, AnchorGenerator):
            anchors = anchors.fit(shapes)
        super().__init__(
            backbone=NamedFeatures(backbone, shapes),
            head=head
            or retinanet.RetinaNetHead(
                input_shape=list(shapes.values()),
                num_classes=num_classes,
                num_anchors=anchors.num_anchors[0],
                conv_dims=[channels] * 4,
            ),
            head_in_features=list(shapes),
            anchor_generator=anchors,
            box2box_transform=Box2BoxTransform(weights=(1.0, 1.0, 1.0, 1.0)),
            anchor_matcher=proposal_matcher
            or Matcher([bg_iou_thresh, fg_iou_thresh], [0, -1, 1], allow_low_quality_matches=True),
            num_classes=num_classes,
            test_score_thresh=score_thresh,
            test_nms_thresh=nms_thresh,
            test_topk_candidates=topk_candidates,
            max_detections_per_image=detections_per_img,
            pixel_mean=image_mean,
            pixel_std=image_std,
            input_format="RGB",
        )
        self._take_torchvision_form(
            GeneralizedRCNNTransform(min_size, max_size, image_mean, image_std, **kwargs)
        )


def _default_anchors(num_levels: int) -> AnchorGenerator:
    """Make three sizes an octave: 32, 40, 50 on the first map, twice these on the next."""
    sizes = [tuple(int(32 * 2 ** (level + i / 3)) for i in range(3)) for level in range(num_levels)]
    return AnchorGenerator(sizes, ((0.5, 1.0, 2.0),))
