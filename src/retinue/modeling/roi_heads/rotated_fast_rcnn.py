"""Fast R-CNN over rotated boxes.

Shapes
    R_i regions of image i; K object classes, the label K is background.

Units
    A rotated box is x and y of the centre, width, height in pixels of the network input, and the
    angle in degrees, counter-clockwise.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from retinue.config import CfgNode, configurable
from retinue.layers import ShapeSpec, batched_nms_rotated
from retinue.modeling.box_regression import Box2BoxTransformRotated
from retinue.modeling.catalog import ROI_HEADS_REGISTRY
from retinue.modeling.roi_heads.base import make_pooler, pooled_shape
from retinue.modeling.roi_heads.box_head import build_box_head
from retinue.modeling.roi_heads.fast_rcnn import (
    FastRCNNOutputLayers,
    Predictions,
    pick_detections,
)
from retinue.modeling.roi_heads.roi_heads import StandardROIHeads
from retinue.structures import Instances, RotatedBoxes, pairwise_iou_rotated
from retinue.utils.errors import InputError

__all__ = ["ROI_HEADS_REGISTRY", "RROIHeads", "RotatedFastRCNNOutputLayers"]


@torch.no_grad()
def fast_rcnn_inference_rotated(
    boxes: Sequence[torch.Tensor],
    scores: Sequence[torch.Tensor],
    image_shapes: Sequence[tuple[int, int]],
    score_thresh: float,
    nms_thresh: float,
    topk_per_image: int,
) -> tuple[list[Instances], list[torch.Tensor]]:
    """Turn scored rotated boxes into detections, as ``fast_rcnn_inference`` does with upright ones.

    Args:
        boxes: per image ``(R_i, K * 5)``, or ``(R_i, 5)`` where classes share a box. Boxes that
            are almost upright are clipped to the image.
        scores: per image ``(R_i, K + 1)``.
        image_shapes: ``(height, width)`` of each image.
        score_thresh: a detection's score must exceed this.
        nms_thresh: of two boxes of a class with a greater IoU, the better scored stays.
        topk_per_image: most detections in an image, best first; negative for all.
    """
    if not boxes:
        return [], []

    def clip(box: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        parts = box.split(image.bincount(minlength=len(image_shapes)).tolist())
        clipped = [RotatedBoxes(part) for part in parts]
        for part, size in zip(clipped, image_shapes, strict=True):
            part.clip(size)
        return torch.cat([part.tensor for part in clipped])

    return pick_detections(
        boxes,
        scores,
        image_shapes,
        score_thresh,
        nms_thresh,
        topk_per_image,
        clip=clip,
        nms=batched_nms_rotated,
        box_type=RotatedBoxes,
    )


def fast_rcnn_inference_single_image_rotated(
    boxes: torch.Tensor,
    scores: torch.Tensor,
    image_shape: tuple[int, int],
    score_thresh: float,
    nms_thresh: float,
    topk_per_image: int,
) -> tuple[Instances, torch.Tensor]:
    """Do what :func:`fast_rcnn_inference_rotated` does, for one image."""
    found, rows = fast_rcnn_inference_rotated(
        [boxes], [scores], [image_shape], score_thresh, nms_thresh, topk_per_image
    )
    return found[0], rows[0]


class RotatedFastRCNNOutputLayers(FastRCNNOutputLayers):
    """The two linear layers of Fast R-CNN, for boxes of five numbers."""

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        weights = cfg.MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS
        return super().from_config(cfg, input_shape) | {
            "box2box_transform": Box2BoxTransformRotated(weights=weights)
        }

    def inference(
        self, predictions: Predictions, proposals: Sequence[Instances]
    ) -> tuple[list[Instances], list[torch.Tensor]]:
        """Turn predictions into detections, as :func:`fast_rcnn_inference_rotated` does."""
        return fast_rcnn_inference_rotated(
            self.predict_boxes(predictions, proposals),
            self.predict_probs(predictions, proposals),
            [p.image_size for p in proposals],
            self.test_score_thresh,
            self.test_nms_thresh,
            self.test_topk_per_image,
        )


class RROIHeads(StandardROIHeads):
    """Heads that detect rotated boxes; they have no masks or keypoints.

    Args:
        **kwargs: arguments of :class:`StandardROIHeads`.

    Raises:
        InputError: If a branch is asked for that they don't have.
    """

    pairwise_iou: Callable[..., torch.Tensor] = staticmethod(pairwise_iou_rotated)

    @configurable
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if self.mask_on or self.keypoint_on or self.train_on_pred_boxes:
            raise InputError(
                "RROIHeads: masks, keypoints and train_on_pred_boxes don't go with rotated boxes;"
                " set MODEL.MASK_ON, MODEL.KEYPOINT_ON and"
                " MODEL.ROI_BOX_HEAD.TRAIN_ON_PRED_BOXES False"
            )

    @classmethod
    def _init_box_head(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> dict[str, Any]:
        """Build the arguments of the box branch."""
        in_features = cfg.MODEL.ROI_HEADS.IN_FEATURES
        head = cfg.MODEL.ROI_BOX_HEAD
        if head.POOLER_TYPE != "ROIAlignRotated":
            raise InputError(
                "RROIHeads: MODEL.ROI_BOX_HEAD.POOLER_TYPE must be 'ROIAlignRotated';"
                f" got {head.POOLER_TYPE!r}"
            )
        box_head = build_box_head(cfg, pooled_shape(head, input_shape, in_features))
        return {
            "box_in_features": in_features,
            "box_pooler": make_pooler(head, input_shape, in_features),
            "box_head": box_head,
            "box_predictor": RotatedFastRCNNOutputLayers(  # type: ignore[call-arg]
                cfg, box_head.output_shape
            ),
        }
