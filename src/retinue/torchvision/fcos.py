"""FCOS from a backbone and a number of classes."""

from collections.abc import Sequence
from typing import Any, ClassVar

from torch import nn

from retinue.modeling.meta_arch import fcos
from retinue.torchvision.anchors import AnchorGenerator
from retinue.torchvision.backbone import (
    NamedFeatures,
    channels_of,
    image_statistics,
    look_at_backbone,
)
from retinue.torchvision.dense import TargetsAndDicts
from retinue.torchvision.transform import GeneralizedRCNNTransform
from retinue.utils.errors import InputError

__all__ = ["FCOS"]


class FCOS(TargetsAndDicts, fcos.FCOS):
    """Classes, boxes and centreness for every place of every feature map.

    Tian et al., "FCOS" (2020), https://arxiv.org/abs/2006.09214.

    Args:
        backbone: maps ``(N, C, H, W)`` images to a feature map or a dict of them; its attribute
            ``out_channels`` says how many channels each has.
        num_classes: labels are below it; 0 is background and never detected if no target has it.
        min_size: the shorter side of an image gets this many pixels.
        max_size: unless the longer side would exceed this.
        image_mean: what is subtracted from each channel; by default the backbone's attribute of
            this name, or ImageNet's.
        image_std: what each channel is then divided by; by default likewise.
        anchor_generator: a square at each place, by default as wide as the stride.
        head: like :class:`~retinue.modeling.meta_arch.fcos.FCOSHead`.
        center_sampling_radius: places closer than this to a box's centre, in strides, belong to it.
        score_thresh: a detection's score must exceed this.
        nms_thresh: IoU above which the weaker of two detections of a class goes.
        detections_per_img: most detections in an image.
        topk_candidates: boxes of a feature map that take part in suppression.
        **kwargs: arguments of :class:`GeneralizedRCNNTransform`.

    Raises:
        InputError: If backbone, anchors and head don't fit together.
    """

    loss_names: ClassVar = {
        "loss_fcos_cls": "classification",
        "loss_fcos_loc": "bbox_regression",
        "loss_fcos_ctr": "bbox_ctrness",
    }

    def __init__(
        self,
        backbone: nn.Module,
        num_classes: int,
        min_size: int | Sequence[int] = 800,
        max_size: int = 1333,
        image_mean: Sequence[float] | None = None,
        image_std: Sequence[float] | None = None,
        anchor_generator: AnchorGenerator | None = None,
        head: nn.Module | None = None,
        center_sampling_radius: float = 1.5,
        score_thresh: float = 0.2,
        nms_thresh: float = 0.6,
        detections_per_img: int = 100,
        topk_candidates: int = 1000,
        **kwargs: Any,
    ) -> None:
        image_mean, image_std = image_statistics(backbone, image_mean, image_std)
        shapes = look_at_backbone(backbone, len(image_mean))
        channels: Any = channels_of(backbone)
        strides = tuple((shape.stride or 1,) for shape in shapes.values())
        anchors = (anchor_generator or AnchorGenerator(strides, ((1.0,),))).fit(shapes)
        if set(anchors.num_anchors) != {1}:
            raise InputError(
                "FCOS: anchor_generator must make one anchor at each place; got"
                f" {anchors.num_anchors}; give it one of sizes and one of aspect_ratios a map"
            )
        super().__init__(
            backbone=NamedFeatures(backbone, shapes),
            head=head
            or fcos.FCOSHead(
                input_shape=list(shapes.values()),
                num_classes=num_classes,
                conv_dims=[channels] * 4,
                norm="GN",
            ),
            head_in_features=list(shapes),
            num_classes=num_classes,
            center_sampling_radius=center_sampling_radius,
            test_score_thresh=score_thresh,
            test_topk_candidates=topk_candidates,
            test_nms_thresh=nms_thresh,
            max_detections_per_image=detections_per_img,
            pixel_mean=image_mean,
            pixel_std=image_std,
        )
        self.anchor_generator = anchors
        self._take_torchvision_form(
            GeneralizedRCNNTransform(min_size, max_size, image_mean, image_std, **kwargs)
        )

    def _ema_update(self, name: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        """Divide losses by the objects of this batch alone, as torchvision does."""
        return value
