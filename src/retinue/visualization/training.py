"""Pictures of what a model is trained on, beside what it predicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from retinue.data.detection_utils import convert_image_to_rgb
from retinue.structures import Instances
from retinue.utils.errors import InputError
from retinue.utils.events import get_event_storage
from retinue.visualization.visualizer import Visualizer

__all__ = ["draw_beside", "put_picture"]

MAX_PREDICTIONS = 20


def draw_beside(
    sample: Mapping[str, Any],
    predicted: Instances | None,
    input_format: str | None,
    *,
    stacked: bool = False,
) -> np.ndarray:
    """Draw an image with its annotations, and the same with the best predictions for it.

    Args:
        sample: the input of a model: ``image`` ``(C, H, W)`` and, where known, ``instances``.
        predicted: detections or proposals, best first, in pixels of that image.
        input_format: order of the channels; ``"BGR"`` if None.
        stacked: put the predictions below, rather than to the right.

    Returns:
        ``(H, 2 W, 3)`` uint8, RGB; stacked ``(2 H, W, 3)``.
    """
    rgb = convert_image_to_rgb(sample["image"].permute(1, 2, 0), input_format or "BGR")
    best = None if predicted is None else predicted[:MAX_PREDICTIONS].to("cpu")
    pictures = [_draw(rgb, sample.get("instances")), _draw(rgb, best)]
    return np.concatenate(pictures, axis=0 if stacked else 1)


def put_picture(
    batched_inputs: Sequence[Mapping[str, Any]],
    predicted: Sequence[Instances],
    input_format: str | None,
    *,
    stacked: bool = False,
) -> None:
    """Put the first image of a batch, drawn by :func:`draw_beside`, into the active storage.

    Raises:
        InputError: If there is not one prediction an image.
        AssertionError: If no storage is active.
    """
    if len(batched_inputs) != len(predicted):
        raise InputError(
            f"put_picture: expected predictions for {len(batched_inputs)} images; got"
            f" {len(predicted)}"
        )
    if not batched_inputs:
        return
    picture = draw_beside(batched_inputs[0], predicted[0], input_format, stacked=stacked)
    places = ("Top", "Bottom") if stacked else ("Left", "Right")
    what = "proposals" if predicted[0].has("proposal_boxes") else "detections"
    name = f"{places[0]}: annotations; {places[1]}: {what}"
    get_event_storage().put_image(name, picture.transpose(2, 0, 1))


def _draw(rgb: np.ndarray, instances: Any) -> np.ndarray:
    rgb = np.ascontiguousarray(rgb).astype(np.uint8)
    if instances is None or len(instances) == 0:
        return rgb
    fields = instances.get_fields()

    def first(*names: str) -> Any:
        return next((fields[name] for name in names if name in fields), None)

    boxes = first("gt_boxes", "pred_boxes", "proposal_boxes")
    masks = first("gt_masks", "pred_masks")
    keypoints = first("gt_keypoints", "pred_keypoints")
    classes = first("gt_classes", "pred_classes")
    drawing = Visualizer(rgb).overlay_instances(
        boxes=boxes,
        masks=masks.numpy() if isinstance(masks, torch.Tensor) else masks,
        keypoints=keypoints,
        labels=None if classes is None else [str(c) for c in classes.tolist()],
    )
    return np.asarray(drawing.get_image())
