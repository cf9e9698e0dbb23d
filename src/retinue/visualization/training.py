"""Pictures that a model puts into the storage while it trains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from retinue.data.detection_utils import convert_image_to_rgb
from retinue.structures import Boxes, Instances
from retinue.utils.errors import InputError
from retinue.utils.events import get_event_storage
from retinue.visualization.visualizer import Visualizer

__all__ = ["put_picture"]

MAX_BOXES = 20


def put_picture(
    batched_inputs: Sequence[Mapping[str, Any]],
    predicted: Sequence[Instances],
    input_format: str | None,
    *,
    stacked: bool = False,
) -> None:
    """Draw the objects of the first image of a batch beside what a model predicts for it.

    Args:
        batched_inputs: a dict an image, with ``image`` ``(C, H, W)`` and ``instances``.
        predicted: of each image ``proposal_boxes`` or ``pred_boxes``, best first, in its pixels.
        input_format: order of the channels; ``"BGR"`` by default.
        stacked: put one picture above the other, rather than side by side.

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
    storage = get_event_storage()
    image = convert_image_to_rgb(batched_inputs[0]["image"].permute(1, 2, 0), input_format or "BGR")
    found = predicted[0]
    is_proposal = found.has("proposal_boxes")
    boxes = found.proposal_boxes if is_proposal else found.pred_boxes
    left = _drawn(image, batched_inputs[0]["instances"].gt_boxes)
    right = _drawn(image, boxes[:MAX_BOXES])
    places = ("Top", "Bottom") if stacked else ("Left", "Right")
    what = "proposals" if is_proposal else "detections"
    picture = np.concatenate([left, right], axis=0 if stacked else 1)
    name = f"{places[0]}: annotated boxes; {places[1]}: {what}"
    storage.put_image(name, picture.transpose(2, 0, 1))


def _drawn(image: np.ndarray, boxes: Boxes) -> np.ndarray:
    """Draw boxes on a copy of an RGB image."""
    drawing = Visualizer(image).overlay_instances(boxes=boxes.tensor.detach().cpu().numpy())
    return np.asarray(drawing.get_image())
