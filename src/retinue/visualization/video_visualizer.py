"""Drawing the frames of a video, each object in the same colour from frame to frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from retinue.utils.errors import InputError
from retinue.visualization.colors import RGB, palette_color
from retinue.visualization.panoptic import PanopticView
from retinue.visualization.primitives import as_array
from retinue.visualization.vis_image import VisImage
from retinue.visualization.visualizer import ColorMode, Visualizer, _create_text_labels

__all__ = ["VideoVisualizer"]

_FRAMES_REMEMBERED = 8  # an object that was missed keeps its colour for so many frames


@dataclass
class _DetectedInstance:
    """An object of a frame: ``bbox`` is ``x0, y0, x1, y1``; without one ``mask_rle`` is COCO's."""

    label: int
    bbox: Any
    mask_rle: Any
    color: Any
    ttl: int


class VideoVisualizer:
    """Draws frame after frame.

    Args:
        metadata: of the dataset. ``max_num_instances`` bounds how many tracked ids have a colour at
            once (74 by default); objects with an ``ID_period`` up to ``period_threshold`` (0 by
            default) are not labelled or drawn.
        instance_mode: ``IMAGE`` or ``IMAGE_BW``.

    Raises:
        InputError: For another mode.
    """

    def __init__(self, metadata: Any, instance_mode: ColorMode = ColorMode.IMAGE) -> None:
        if instance_mode not in (ColorMode.IMAGE, ColorMode.IMAGE_BW):
            raise InputError(f"VideoVisualizer draws in IMAGE or IMAGE_BW; got {instance_mode}")
        self.metadata = metadata
        self._instance_mode = instance_mode
        self._old_instances: list[_DetectedInstance] = []
        self._num_colored = 0
        self._max_num_instances = metadata.get("max_num_instances", 74)
        self._assigned_colors: dict[Any, int] = {}

    def draw_instance_predictions(self, frame: np.ndarray, predictions: Any) -> VisImage:
        """Draw the ``Instances`` of one frame ``(H, W, 3)`` RGB.

        Colours come from the field ``COLOR``; else from ``ID``, the same for the same id; else
        objects that overlap one of the same class in an earlier frame inherit its colour.
        """
        visualizer = Visualizer(frame, self.metadata)
        num = len(predictions)
        masks = as_array(predictions.pred_masks) if predictions.has("pred_masks") else None
        if self._instance_mode == ColorMode.IMAGE_BW:
            kept = masks.any(axis=0) if masks is not None else None
            visualizer.output.reset_image(visualizer._create_grayscale_image(kept))
        if num == 0:
            return visualizer.output

        def field(name: str) -> Any:
            return as_array(predictions.get(name)) if predictions.has(name) else None

        boxes = None
        if predictions.has("pred_boxes"):
            boxes = visualizer._convert_boxes(predictions.pred_boxes)
        classes = field("pred_classes")
        if predictions.has("COLOR"):
            colors = list(predictions.COLOR)
        elif predictions.has("ID"):
            colors = self._assign_colors_by_id(predictions)
        elif boxes is None:
            colors = [palette_color(i) for i in range(num)]
        else:
            kinds = classes if classes is not None else [0] * num
            colors = self._assign_colors(
                [
                    _DetectedInstance(int(kinds[i]), boxes[i], None, None, _FRAMES_REMEMBERED)
                    for i in range(num)
                ]
            )
        shown = np.ones(num, dtype=bool)
        if predictions.has("ID_period"):
            shown = field("ID_period") > self.metadata.get("period_threshold", 0)
        names = self.metadata.get("thing_classes", None)
        labels = _create_text_labels(classes, field("scores"), names)
        keypoints = None
        if predictions.has("pred_keypoints"):
            keypoints = visualizer._convert_keypoints(predictions.pred_keypoints)[shown]
        return visualizer.overlay_instances(
            boxes=boxes[shown] if masks is None and boxes is not None else None,
            masks=masks[shown] if masks is not None else None,
            labels=[t for t, s in zip(labels, shown, strict=True) if s] if labels else None,
            keypoints=keypoints,
            assigned_colors=[c for c, s in zip(colors, shown, strict=True) if s],
            alpha=0.3 if self._instance_mode == ColorMode.IMAGE_BW else 0.5,
        )

    def draw_sem_seg(
        self, frame: np.ndarray, sem_seg: Any, area_threshold: float | None = None
    ) -> VisImage:
        """Draw a semantic segmentation, ``(H, W)`` class indices, on a frame."""
        return Visualizer(frame, self.metadata).draw_sem_seg(sem_seg, area_threshold=area_threshold)

    def draw_panoptic_seg_predictions(
        self,
        frame: np.ndarray,
        panoptic_seg: Any,
        segments_info: Sequence[dict[str, Any]] | None,
        area_threshold: float | None = None,
        alpha: float = 0.5,
    ) -> VisImage:
        """Draw a panoptic segmentation on a frame; arguments as in ``Visualizer``."""
        from hotcoco import mask as coco_mask

        visualizer = Visualizer(frame, self.metadata)
        segments = PanopticView(as_array(panoptic_seg), segments_info, self.metadata)
        if self._instance_mode == ColorMode.IMAGE_BW:
            kept = segments.non_empty_mask()
            visualizer.output.reset_image(visualizer._create_grayscale_image(kept))
        for mask, info in segments.semantic_masks():
            visualizer.draw_binary_mask(
                mask,
                color=visualizer._stuff_color(info["category_id"]),
                text=self.metadata.stuff_classes[info["category_id"]],
                alpha=alpha,
                area_threshold=area_threshold or 0,
            )
        things = list(segments.instance_masks())
        classes = [info["category_id"] for _, info in things]
        detected = [
            _DetectedInstance(
                info["category_id"],
                None,
                coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8)),
                None,
                _FRAMES_REMEMBERED,
            )
            for mask, info in things
        ]
        return visualizer.overlay_instances(
            masks=[mask for mask, _ in things],
            labels=_create_text_labels(classes, None, self.metadata.get("thing_classes", None)),
            assigned_colors=self._assign_colors(detected),
            alpha=alpha,
        )

    def _assign_colors(self, instances: list[_DetectedInstance]) -> list[Any]:
        """Give each object the colour of the earlier one of its class that it overlaps most."""
        missed = []
        for old in self._old_instances:
            overlaps = [_overlap(old, new) if new.color is None else 0.0 for new in instances]
            best = int(np.argmax(overlaps)) if overlaps else -1
            if best >= 0 and overlaps[best] > (0.6 if old.bbox is not None else 0.5):
                instances[best].color = old.color
            elif old.ttl > 1:
                old.ttl -= 1
                missed.append(old)
        for new in instances:
            if new.color is None:
                new.color = palette_color(self._num_colored)
                self._num_colored += 1
        self._old_instances = instances + missed
        return [new.color for new in instances]

    def _assign_colors_by_id(self, instances: Any) -> list[RGB]:
        """Give each id a colour that no other present id has."""
        ids = [i.item() if hasattr(i, "item") else i for i in instances.ID]
        kept = {i: c for i, c in self._assigned_colors.items() if i in set(ids)}
        free = [c for c in range(self._max_num_instances) if c not in set(kept.values())]
        new = [i for i in dict.fromkeys(ids) if i not in kept]
        if len(new) > len(free):
            raise InputError(
                f"VideoVisualizer: {len(kept) + len(new)} ids in one frame, but"
                f" max_num_instances is {self._max_num_instances}; set it in the metadata"
            )
        self._assigned_colors = {**kept, **dict(zip(new, free, strict=False))}
        return [palette_color(self._assigned_colors[i]) for i in ids]


def _overlap(old: _DetectedInstance, new: _DetectedInstance) -> float:
    """Return the IoU of two objects of a class, of boxes if they have them, else of masks."""
    if old.label != new.label or (old.bbox is None) != (new.bbox is None):
        return 0.0
    if old.bbox is not None:
        low, high = np.maximum(old.bbox[:2], new.bbox[:2]), np.minimum(old.bbox[2:], new.bbox[2:])
        common = float(np.prod((high - low).clip(0)))
        total = sum(float(np.prod(b[2:] - b[:2])) for b in (old.bbox, new.bbox)) - common
        return common / total if total > 0 else 0.0
    if list(old.mask_rle["size"]) != list(new.mask_rle["size"]):
        return 0.0
    from hotcoco import mask as coco_mask

    return float(np.asarray(coco_mask.iou([old.mask_rle], [new.mask_rle], [False])).reshape(-1)[0])
