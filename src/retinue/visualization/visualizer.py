"""Drawing detections, segmentations and annotations on pictures.

Names and arguments are detectron2's; pictures are painted with Pillow. Every ``draw_*`` and
``overlay_*`` method returns the ``VisImage`` that it drew on.

Units
    Coordinates are x, y in pixels of the picture as it came in, whatever ``scale`` is. Font sizes
    and line widths are points, 100 dots an inch, as with matplotlib.

Reading order: ``draw_instance_predictions`` chooses colours and labels, ``overlay_instances`` draws
objects from large to small, the methods below it draw one thing each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from retinue.structures import BitMasks, Boxes, BoxMode, Keypoints, PolygonMasks, RotatedBoxes
from retinue.utils.errors import InputError
from retinue.utils.file_io import PathManager
from retinue.visualization.canvas import tag_size
from retinue.visualization.colors import RGB, contrasting, palette_color, shade, to_rgb
from retinue.visualization.generic_mask import GenericMask
from retinue.visualization.labels import Label, places_around_box, places_in_mask
from retinue.visualization.panoptic import PanopticView
from retinue.visualization.primitives import ColorMode, Primitives, as_array
from retinue.visualization.regions import label_spot
from retinue.visualization.vis_image import VisImage

__all__ = ["ColorMode", "GenericMask", "VisImage", "Visualizer"]

_OFF_WHITE = (1.0, 1.0, 240.0 / 255)
_RED = (1.0, 0, 0)

_PanopticPrediction = PanopticView  # the name that other projects import


def _create_text_labels(
    classes: Sequence[int] | None,
    scores: Any,
    class_names: Sequence[str] | None,
    is_crowd: Sequence[Any] | None = None,
) -> list[str] | None:
    """Make a label such as ``cat 87%`` for each object; None if there is nothing to say."""
    if classes is None and scores is None:
        return None
    num = len(classes) if classes is not None else len(scores)
    words: list[list[str]] = [[] for _ in range(num)]
    for i in range(num):
        if classes is not None:
            words[i].append(class_names[classes[i]] if class_names else str(int(classes[i])))
        if scores is not None:
            words[i].append(f"{float(scores[i]) * 100:.0f}%")
    labels = [" ".join(w) for w in words]
    if is_crowd is not None:
        labels = [f"{t}|crowd" if c else t for t, c in zip(labels, is_crowd, strict=True)]
    return labels


class Visualizer(Primitives):
    """Draws on one picture.

    Args:
        img_rgb: ``(H, W, 3)`` in 0..255.
        metadata: of the dataset, for names and colours of classes and keypoints.
        scale: enlarges the result.
        instance_mode: how objects are coloured.
        font_size_scale: factor on the size of texts.

    Attributes:
        img: ``(H, W, 3)`` uint8.
        metadata: as given.
        output: the ``VisImage`` that is drawn on.
        keypoint_threshold: keypoints of a lower score are left out.
    """

    # Whole results

    def draw_instance_predictions(self, predictions: Any, jittering: bool = True) -> VisImage:
        """Draw the ``Instances`` that a model returned.

        Args:
            predictions: with any of ``pred_boxes``, ``pred_classes``, ``scores``, ``pred_masks``
                (or ``pred_masks_rle``) and ``pred_keypoints``.
            jittering: in mode ``SEGMENTATION``, vary the colour among objects of a class.
        """

        def field(name: str) -> Any:
            return predictions.get(name) if predictions.has(name) else None

        classes = (
            None if field("pred_classes") is None else as_array(field("pred_classes")).tolist()
        )
        names = self.metadata.get("thing_classes", None)
        masks = field("pred_masks")
        if masks is None:
            masks = field("pred_masks_rle")
        elif isinstance(masks, torch.Tensor):
            masks = list(as_array(masks))
        colors, alpha = None, 0.5
        if self._instance_mode == ColorMode.SEGMENTATION and classes is not None:
            colors = [self._class_color(c, vary=jittering) for c in classes]
            alpha = 0.8
        elif self._instance_mode == ColorMode.IMAGE_BW:
            shown = [m.mask for m in self._convert_masks(masks)] if masks is not None else []
            mask = np.any(shown, axis=0) if shown else None
            self.output.reset_image(self._create_grayscale_image(mask))
            alpha = 0.3
        return self.overlay_instances(
            masks=masks,
            boxes=field("pred_boxes"),
            labels=_create_text_labels(classes, field("scores"), names),
            keypoints=field("pred_keypoints"),
            assigned_colors=colors,
            alpha=alpha,
        )

    def draw_sem_seg(
        self,
        sem_seg: Any,
        area_threshold: float | None = None,
        alpha: float = 0.8,
        draw_text: bool = True,
        edge_color: Any = _OFF_WHITE,
    ) -> VisImage:
        """Draw a semantic segmentation, ``(H, W)`` class indices; unknown ones are left out.

        Args:
            sem_seg: tensor or array.
            area_threshold: connected parts of fewer pixels are left out.
            alpha: opacity.
            draw_text: whether to write the names of classes.
            edge_color: of the outlines.
        """
        sem_seg = as_array(sem_seg)
        names = self.metadata.stuff_classes
        classes, areas = np.unique(sem_seg, return_counts=True)
        for index in classes[np.argsort(-areas, kind="stable")].tolist():
            if 0 <= index < len(names):
                self.draw_binary_mask(
                    sem_seg == index,
                    color=self._stuff_color(index),
                    edge_color=edge_color,
                    text=names[index] if draw_text else None,
                    alpha=alpha,
                    area_threshold=area_threshold or 0,
                )
        return self.output

    def draw_panoptic_seg(
        self,
        panoptic_seg: Any,
        segments_info: Sequence[dict[str, Any]] | None,
        area_threshold: float | None = None,
        alpha: float = 0.7,
    ) -> VisImage:
        """Draw a panoptic segmentation, ``(H, W)`` segment ids: stuff first, things over it.

        Args:
            panoptic_seg: tensor or array.
            segments_info: a dict with ``id``, ``category_id``, ``isthing`` for each segment.
                None if ids are ``category_id * metadata.label_divisor + instance``.
            area_threshold: connected parts of stuff of fewer pixels are left out.
            alpha: opacity.
        """
        segments = PanopticView(as_array(panoptic_seg), segments_info, self.metadata)
        if self._instance_mode == ColorMode.IMAGE_BW:
            self.output.reset_image(self._create_grayscale_image(segments.non_empty_mask()))
        for mask, info in segments.semantic_masks():
            self.draw_binary_mask(
                mask,
                color=self._stuff_color(info["category_id"]),
                edge_color=_OFF_WHITE,
                text=self.metadata.stuff_classes[info["category_id"]],
                alpha=alpha,
                area_threshold=area_threshold or 0,
            )
        things = list(segments.instance_masks())
        classes = [info["category_id"] for _, info in things]
        has_scores = bool(things) and all("score" in info for _, info in things)
        return self.overlay_instances(
            masks=[mask for mask, _ in things],
            labels=_create_text_labels(
                classes,
                [info["score"] for _, info in things] if has_scores else None,
                self.metadata.get("thing_classes", None),
                [info.get("iscrowd", 0) for _, info in things],
            ),
            assigned_colors=[self._class_color(c) for c in classes],
            alpha=alpha,
        )

    draw_panoptic_seg_predictions = draw_panoptic_seg

    def draw_dataset_dict(self, dic: dict[str, Any]) -> VisImage:
        """Draw what a dataset dict says of its picture: annotations, semantic and panoptic."""
        if annotations := dic.get("annotations"):
            self._draw_annotations(annotations)
        sem_seg = dic.get("sem_seg")
        if sem_seg is None and "sem_seg_file_name" in dic:
            sem_seg = _read_image(dic["sem_seg_file_name"])
        if sem_seg is not None:
            self.draw_sem_seg(sem_seg, area_threshold=0, alpha=0.5)
        pan_seg = dic.get("pan_seg")
        if pan_seg is None and "pan_seg_file_name" in dic:
            # COCO keeps ids in base 256: red + 256 green + 65536 blue.
            pan_seg = _read_image(dic["pan_seg_file_name"])[..., :3] @ (1, 256, 65536)
        if pan_seg is not None:
            self.draw_panoptic_seg(pan_seg, dic["segments_info"], area_threshold=0, alpha=0.5)
        return self.output

    def _draw_annotations(self, annotations: Sequence[dict[str, Any]]) -> None:
        num = len(annotations)
        boxes = [
            BoxMode.convert(a["bbox"], a["bbox_mode"], BoxMode.XYXY_ABS)
            if len(a["bbox"]) == 4
            else a["bbox"]
            for a in annotations
        ]
        masks = keypoints = colors = None
        if any("segmentation" in a for a in annotations):
            masks = [a.get("segmentation") or [] for a in annotations]
        if all("keypoints" in a for a in annotations):
            keypoints = np.asarray([a["keypoints"] for a in annotations]).reshape(num, -1, 3)
        classes = [a["category_id"] for a in annotations]
        if self._instance_mode == ColorMode.SEGMENTATION:
            colors = [self._class_color(c) for c in classes]
        labels = _create_text_labels(
            classes,
            None,
            self.metadata.get("thing_classes", None),
            [a.get("iscrowd", 0) for a in annotations],
        )
        self.overlay_instances(
            labels=labels, boxes=boxes, masks=masks, keypoints=keypoints, assigned_colors=colors
        )

    # Many objects

    def overlay_instances(
        self,
        *,
        boxes: Any = None,
        labels: Sequence[str] | None = None,
        masks: Any = None,
        keypoints: Any = None,
        assigned_colors: Sequence[Any] | None = None,
        alpha: float = 0.5,
    ) -> VisImage:
        """Draw N objects, large ones first.

        Args:
            boxes: ``Boxes``, ``RotatedBoxes``, or ``(N, 4)`` ``x0, y0, x1, y1`` or ``(N, 5)``
                ``center x, center y, width, height, degrees``.
            labels: a text for each.
            masks: ``PolygonMasks``, ``BitMasks``, ``(N, H, W)`` bitmaps, or a list with, for each
                object, a list of polygons, a bitmap or a COCO run-length dict.
            keypoints: ``Keypoints`` or ``(N, K, 3)`` of x, y, score.
            assigned_colors: a colour for each.
            alpha: opacity of masks.

        Raises:
            InputError: If these differ in number.
        """
        boxes = self._convert_boxes(boxes) if boxes is not None else None
        masks = self._convert_masks(masks) if masks is not None else None
        keypoints = self._convert_keypoints(keypoints) if keypoints is not None else None
        num = self._count(boxes=boxes, masks=masks, keypoints=keypoints)
        if labels is not None and len(labels) != num:
            raise InputError(f"overlay_instances: {num} objects, but {len(labels)} labels")
        if num == 0:
            return self.output
        colors = [palette_color(i) for i in range(num)]
        if assigned_colors is not None:
            colors = [to_rgb(c) for c in assigned_colors]
        if boxes is not None and boxes.shape[1] == 5:
            return self.overlay_rotated_instances(boxes, labels, colors)

        for i in self._large_to_small(num, boxes, masks):
            box = boxes[i] if boxes is not None else None
            if masks is not None:
                self._draw_mask(masks[i], colors[i], alpha)
            if box is not None:
                self.draw_box(box, alpha=0.9, edge_color=colors[i])
            if labels is not None and (box is not None or masks is not None):
                self._add_label(labels[i], colors[i], box, masks[i] if masks is not None else None)
        if keypoints is not None:
            for points in keypoints:
                self.draw_and_connect_keypoints(points)
        return self.output

    def _count(self, **parts: Any) -> int:
        numbers = {name: len(part) for name, part in parts.items() if part is not None}
        if len(set(numbers.values())) > 1:
            raise InputError(f"overlay_instances: as many of each expected; got {numbers}")
        return next(iter(numbers.values()), 0)

    def _large_to_small(
        self, num: int, boxes: np.ndarray | None, masks: list[GenericMask] | None
    ) -> list[int]:
        if boxes is not None:
            areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
        elif masks is not None:
            areas = np.asarray([m.area() for m in masks])
        else:
            return list(range(num))
        return np.argsort(-areas, kind="stable").tolist()

    def _draw_mask(self, mask: GenericMask, color: RGB, alpha: float) -> None:
        if mask.is_polygonal:
            for polygon in mask.polygons:
                self.draw_polygon(polygon.reshape(-1, 2), color, alpha=alpha)
        else:
            edge_color = shade(color, -0.7) if alpha > 0.8 else color
            self.output.painter.mask(
                mask.mask, color, alpha=alpha, edge_color=edge_color, edge_width=self._edge_width()
            )

    def _add_label(
        self, text: str, color: RGB, box: np.ndarray | None, mask: GenericMask | None
    ) -> None:
        """Keep a label for the object with this box, or without one, this mask."""
        scale = self.output.scale
        if box is None:
            assert mask is not None
            if mask.area() == 0:
                return
            rect = mask.bbox() * scale
            spot = [v * scale for v in label_spot(mask.mask)]
        else:
            rect = np.asarray(box, dtype=np.float64) * scale
        size = self._label_size(float(rect[3] - rect[1]) / scale)
        if box is None:
            places = places_in_mask(spot, rect, text, size)
        else:
            places = places_around_box(rect, text, size)
        if (rect[2] - rect[0]) * (rect[3] - rect[1]) < 4 * np.prod(tag_size(text, size)):
            self.output.avoid(tuple(rect))
        self.output.add_label(Label(text, size, places, contrasting(color), color, 0.92))

    def overlay_rotated_instances(
        self,
        boxes: Any = None,
        labels: Sequence[str] | None = None,
        assigned_colors: Sequence[Any] | None = None,
    ) -> VisImage:
        """Draw N rotated boxes, ``(N, 5)`` center x, center y, width, height, degrees."""
        boxes = np.zeros((0, 5)) if boxes is None else self._convert_boxes(boxes)
        for i in np.argsort(-(boxes[:, 2] * boxes[:, 3]), kind="stable").tolist():
            self.draw_rotated_box_with_label(
                boxes[i],
                edge_color=assigned_colors[i] if assigned_colors is not None else palette_color(i),
                label=labels[i] if labels is not None else None,
            )
        return self.output

    def draw_and_connect_keypoints(self, keypoints: Any) -> VisImage:
        """Draw the keypoints of one object, ``(K, 3)`` of x, y, score, and lines between them.

        Lines follow ``metadata.keypoint_connection_rules``; a person's nose, shoulders and hips
        are joined by a spine as well.
        """
        names = self.metadata.get("keypoint_names")
        seen: dict[str, np.ndarray] = {}
        drawn = []
        for i, (x, y, score) in enumerate(as_array(keypoints).tolist()):
            if score > self.keypoint_threshold:
                drawn.append((x, y))
                if names:
                    seen[names[i]] = np.asarray([x, y])
        for first, second, color in self.metadata.get("keypoint_connection_rules") or ():
            if first in seen and second in seen:
                self._connect(seen[first], seen[second], [v / 255.0 for v in color])
        if "left_shoulder" in seen and "right_shoulder" in seen:
            shoulders = (seen["left_shoulder"] + seen["right_shoulder"]) / 2
            if "nose" in seen:
                self._connect(seen["nose"], shoulders, _RED)
            if "left_hip" in seen and "right_hip" in seen:
                self._connect((seen["left_hip"] + seen["right_hip"]) / 2, shoulders, _RED)
        for point in drawn:
            self.draw_circle(point, color=_OFF_WHITE, radius=3)
            self.draw_circle(point, color=_RED, radius=2)
        return self.output

    def _connect(self, first: np.ndarray, second: np.ndarray, color: Any) -> None:
        self.draw_line([first[0], second[0]], [first[1], second[1]], color=color)

    # Forms that things come in; other projects call or override these

    def _class_color(self, index: int, *, vary: bool = True) -> RGB:
        known = self.metadata.get("thing_colors", None)
        color = [v / 255 for v in known[index]] if known else palette_color(index)
        return self._jitter(color) if vary else to_rgb(color)

    def _stuff_color(self, index: int) -> RGB:
        known = self.metadata.get("stuff_colors", None) or ()
        return (
            to_rgb([v / 255 for v in known[index]]) if index < len(known) else palette_color(index)
        )

    def _convert_boxes(self, boxes: Any) -> np.ndarray:
        if isinstance(boxes, Boxes | RotatedBoxes):
            boxes = boxes.tensor
        boxes = as_array(boxes)
        return boxes.reshape(0, 4) if boxes.size == 0 and boxes.ndim < 2 else boxes

    def _convert_masks(self, masks_or_polygons: Any) -> list[GenericMask]:
        masks = masks_or_polygons
        if isinstance(masks, PolygonMasks):
            masks = masks.polygons
        elif isinstance(masks, BitMasks):
            masks = as_array(masks.tensor)
        height, width = self.output.height, self.output.width
        return [
            m
            if isinstance(m, GenericMask)
            else GenericMask(as_array(m) if isinstance(m, torch.Tensor) else m, height, width)
            for m in masks
        ]

    def _convert_keypoints(self, keypoints: Any) -> np.ndarray:
        return as_array(keypoints.tensor if isinstance(keypoints, Keypoints) else keypoints)


def _read_image(file_name: str) -> np.ndarray:
    with PathManager.open(file_name, "rb") as f:
        return np.asarray(Image.open(f))
