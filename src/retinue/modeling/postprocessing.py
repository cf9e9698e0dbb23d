"""From what a model predicts to the image size that the user asked for."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from retinue.structures import Instances, ROIMasks
from retinue.utils.errors import InputError

__all__ = ["detector_postprocess", "sem_seg_postprocess"]


def detector_postprocess(
    results: Instances, output_height: int, output_width: int, mask_threshold: float = 0.5
) -> Instances:
    """Carry detections from the size of the network input over to another image size.

    Args:
        results: predictions with ``pred_boxes`` or ``proposal_boxes``; they stay as they are.
            ``pred_masks``, if there, are ``ROIMasks`` or ``(N, 1, M, M)`` probabilities,
            ``pred_keypoints`` ``(N, K, 3 or 4)`` with x and y first.
        output_height: rows of the result.
        output_width: columns of the result.
        mask_threshold: smallest probability of a mask's pixels.

    Returns:
        The detections whose box has an area after clipping to the image, with boxes and keypoints
        in its pixels and ``pred_masks`` as ``(N, output_height, output_width)`` bool.

    Raises:
        InputError: If there are no boxes among the fields.
    """
    height, width = results.image_size
    scale_x, scale_y = output_width / width, output_height / height
    box_field = next((f for f in ("pred_boxes", "proposal_boxes") if results.has(f)), None)
    if box_field is None:
        raise InputError(
            "detector_postprocess: results must have pred_boxes or proposal_boxes; the fields are"
            f" {sorted(results.get_fields())}"
        )
    resized = Instances((output_height, output_width), **results.get_fields())
    boxes = results.get(box_field).clone()
    boxes.scale(scale_x, scale_y)
    boxes.clip(resized.image_size)
    resized.set(box_field, boxes)
    resized = resized[boxes.nonempty()]  # copies what it selects

    if resized.has("pred_masks"):
        masks = resized.pred_masks
        masks = masks if isinstance(masks, ROIMasks) else ROIMasks(masks[:, 0])
        resized.pred_masks = masks.to_bitmasks(
            resized.pred_boxes, output_height, output_width, mask_threshold
        ).tensor
    if resized.has("pred_keypoints"):
        resized.pred_keypoints[:, :, 0] *= scale_x
        resized.pred_keypoints[:, :, 1] *= scale_y
    return resized


def sem_seg_postprocess(
    result: torch.Tensor, img_size: tuple[int, int], output_height: int, output_width: int
) -> torch.Tensor:
    """Cut off the padding and resize semantic logits to another image size.

    Args:
        result: ``(C, H, W)`` logits at the size of the padded batch.
        img_size: (height, width) of the image in it.
        output_height: rows of the result.
        output_width: columns of the result.

    Returns:
        ``(C, output_height, output_width)``, bilinear.
    """
    height, width = img_size
    size_hw = (output_height, output_width)
    cut = result[None, :, :height, :width]
    if cut.shape[2:] == size_hw:  # interpolation would give the same numbers
        return cut[0]
    is_channels_last = result.stride(0) == 1  # kept: the other order takes longer to make
    layout = torch.channels_last if is_channels_last else torch.contiguous_format
    return F.interpolate(cut.contiguous(memory_format=layout), size=size_hw, mode="bilinear")[0]
