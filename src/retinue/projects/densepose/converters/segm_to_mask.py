"""From predictions in boxes to masks of the image.

Shapes
    H, W height and width of a box in pixels; a box's prediction is stretched over its pixels.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F

from retinue.projects.densepose.converters.base import IntTupleBox, make_int_box
from retinue.structures import BitMasks, Boxes, BoxMode

__all__ = [
    "predictor_output_with_coarse_segm_to_mask",
    "predictor_output_with_fine_and_coarse_segm_to_mask",
    "resample_coarse_segm_tensor_to_bbox",
    "resample_fine_and_coarse_segm_tensors_to_bbox",
    "resample_fine_and_coarse_segm_to_bbox",
    "stretch",
]


def stretch(prediction: torch.Tensor, box_xywh_abs: IntTupleBox) -> torch.Tensor:
    """Interpolate ``(1, C, S, S)`` to the pixels of a box, at least one: ``(1, C, H, W)``."""
    size_hw = max(box_xywh_abs[3], 1), max(box_xywh_abs[2], 1)
    return F.interpolate(prediction, size_hw, mode="bilinear", align_corners=False)


def resample_coarse_segm_tensor_to_bbox(
    coarse_segm: torch.Tensor, box_xywh_abs: IntTupleBox
) -> torch.Tensor:
    """Label the pixels of a box by coarse logits ``(1, K, S, S)``: ``(1, H, W)`` int64."""
    return stretch(coarse_segm, box_xywh_abs).argmax(dim=1)


def resample_fine_and_coarse_segm_tensors_to_bbox(
    fine_segm: torch.Tensor, coarse_segm: torch.Tensor, box_xywh_abs: IntTupleBox
) -> torch.Tensor:
    """Label the pixels of a box by charts, and by background where the coarse logits say so.

    Args:
        fine_segm: ``(1, C, S, S)`` logits.
        coarse_segm: ``(1, K, S, S)`` logits.
        box_xywh_abs: x, y, width, height in whole pixels.

    Returns:
        ``(1, H, W)`` int64.
    """
    on_body = stretch(coarse_segm, box_xywh_abs).argmax(dim=1) > 0
    return stretch(fine_segm, box_xywh_abs).argmax(dim=1) * on_body


def resample_fine_and_coarse_segm_to_bbox(
    predictor_output: Any, box_xywh_abs: IntTupleBox
) -> torch.Tensor:
    """Label the pixels of a box by a prediction for one instance: ``(1, H, W)`` int64."""
    return resample_fine_and_coarse_segm_tensors_to_bbox(
        predictor_output.fine_segm, predictor_output.coarse_segm, box_xywh_abs
    )


def predictor_output_with_coarse_segm_to_mask(
    predictor_output: Any, boxes: Boxes, image_size_hw: tuple[int, int]
) -> BitMasks:
    """Make masks of what the coarse logits say is no background.

    Args:
        predictor_output: with ``coarse_segm``, of N instances.
        boxes: N of them.
        image_size_hw: (height, width).
    """

    def labels(one: Any, box: IntTupleBox) -> torch.Tensor:
        return resample_coarse_segm_tensor_to_bbox(one.coarse_segm, box)

    return _paste(labels, predictor_output, boxes, image_size_hw)


def predictor_output_with_fine_and_coarse_segm_to_mask(
    predictor_output: Any, boxes: Boxes, image_size_hw: tuple[int, int]
) -> BitMasks:
    """Make masks of what both logits say is no background.

    Args:
        predictor_output: with ``fine_segm`` and ``coarse_segm``, of N instances.
        boxes: N of them.
        image_size_hw: (height, width).
    """
    return _paste(resample_fine_and_coarse_segm_to_bbox, predictor_output, boxes, image_size_hw)


def _paste(
    labels_of: Callable[[Any, IntTupleBox], torch.Tensor],
    predictor_output: Any,
    boxes: Boxes,
    image_size_hw: tuple[int, int],
) -> BitMasks:
    """Paste each instance's labels at its box; what lies outside the image is cut off."""
    height, width = image_size_hw
    masks = torch.zeros(len(boxes), height, width, dtype=torch.bool, device=boxes.device)
    boxes_xywh = BoxMode.convert(boxes.tensor, BoxMode.XYXY_ABS, BoxMode.XYWH_ABS)
    for i, box in enumerate(map(make_int_box, boxes_xywh)):  # boxes differ in size
        x, y = box[:2]
        mask = labels_of(predictor_output[i], box)[0] > 0
        mask = mask[max(-y, 0) : max(height - y, 0), max(-x, 0) : max(width - x, 0)]
        x, y = max(x, 0), max(y, 0)
        masks[i, y : y + mask.shape[0], x : x + mask.shape[1]] = mask
    return BitMasks(masks)
