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

import random
from collections.abc import Sequence
from enum import Enum, unique
from typing import Any

import numpy as np
import torch
from PIL import Image

from retinue.structures import BitMasks, Boxes, BoxMode, Keypoints, PolygonMasks, RotatedBoxes
from retinue.utils.errors import InputError
from retinue.utils.file_io import PathManager
from retinue.visualization.canvas import tag_size
from retinue.visualization.colors import RGB, contrasting, jitter, palette_color, shade, to_rgb
from retinue.visualization.generic_mask import GenericMask
from retinue.visualization.labels import Label, places_around_box, places_in_mask
from retinue.visualization.panoptic import PanopticView
from retinue.visualization.regions import label_regions, label_spot
from retinue.visualization.vis_image import VisImage

__all__ = ["ColorMode", "GenericMask", "VisImage", "Visualizer"]

_SMALL_OBJECT_AREA_THRESH = 1000
_LARGE_MASK_AREA_THRESH = 120000
_OFF_WHITE = (1.0, 1.0, 240.0 / 255)
_BLACK = (0, 0, 0)
_RED = (1.0, 0, 0)
_KEYPOINT_THRESHOLD = 0.05

_PanopticPrediction = PanopticView  # the name that other projects import


@unique
class ColorMode(Enum):
    """How objects are coloured.

    ``IMAGE``: each object its own colour, half transparent. ``SEGMENTATION``: objects of a class
    in shades of that class's colour, nearly opaque. ``IMAGE_BW``: as ``IMAGE``, over a picture
    that keeps its colours inside masks only.
    """

    IMAGE = 0
    SEGMENTATION = 1
    IMAGE_BW = 2


def _array(values: Any) -> np.ndarray:
    return values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)


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


class Visualizer:
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

    def __init__(
        self,
        img_rgb: Any,
        metadata: Any = None,
        scale: float = 1.0,
        instance_mode: ColorMode = ColorMode.IMAGE,
        font_size_scale: float = 1.0,
    ) -> None:
        self.img = _array(img_rgb).clip(0, 255).astype(np.uint8)
        if metadata is None:
            from retinue.data.catalog import MetadataCatalog

            metadata = MetadataCatalog.get("__nonexist__")
        self.metadata = metadata
        self.output = VisImage(self.img, scale=scale)
        self.cpu_device = torch.device("cpu")
        side = np.sqrt(self.output.height * self.output.width)
        self._default_font_size = max(side // 90, 10 // scale) * font_size_scale
        self._instance_mode = instance_mode
        self.keypoint_threshold = _KEYPOINT_THRESHOLD
        self._random = random.Random(0)  # the same picture each time

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

        classes = None if field("pred_classes") is None else _array(field("pred_classes")).tolist()
        names = self.metadata.get("thing_classes", None)
        masks = field("pred_masks")
        if masks is None:
            masks = field("pred_masks_rle")
        elif isinstance(masks, torch.Tensor):
            masks = list(_array(masks))
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
        sem_seg = _array(sem_seg)
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
        segments = PanopticView(_array(panoptic_seg), segments_info, self.metadata)
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
        height_ratio = (rect[3] - rect[1]) / scale / np.sqrt(self.output.height * self.output.width)
        points = np.clip((height_ratio - 0.02) / 0.08 + 1, 1.2, 2) * 0.5 * self._default_font_size
        size = max(self.output.pixels(float(points)), 8.0)
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
        for i, (x, y, score) in enumerate(_array(keypoints).tolist()):
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
        self.draw_line(*zip(first, second, strict=True), color=color)

    # One thing

    def draw_text(
        self,
        text: str,
        position: Sequence[float],
        *,
        font_size: float | None = None,
        color: Any = "g",
        horizontal_alignment: str = "center",
        rotation: float = 0,
    ) -> VisImage:
        """Write a text on a dark plate, over everything else.

        Args:
            text: one line.
            position: x, y of the plate's top edge.
            font_size: in points; by default it follows the size of the picture.
            color: of the letters; dark ones are lightened.
            horizontal_alignment: which point of the edge: ``left``, ``center`` or ``right``.
            rotation: degrees counter-clockwise.
        """
        size = self.output.pixels(font_size or self._default_font_size)
        letters = np.maximum(to_rgb(color), 0.2)
        letters[np.argmax(letters)] = max(0.8, letters.max())
        back = {"left": 0.0, "center": 0.5, "right": 1.0}[horizontal_alignment]
        x, y = (float(v) * self.output.scale for v in position)
        x -= back * tag_size(text, size)[0]
        self.output.add_label(
            Label(text, size, [(x, y)], to_rgb(letters), _BLACK, 0.75, float(rotation))
        )
        return self.output

    def draw_box(
        self,
        box_coord: Sequence[float],
        alpha: float = 0.5,
        edge_color: Any = "g",
        line_style: str = "-",
    ) -> VisImage:
        """Draw the outline of a box, ``x0, y0, x1, y1``; thinner if it is small."""
        x0, y0, x1, y1 = (float(v) * self.output.scale for v in box_coord)
        width = self._line_width(min(abs(x1 - x0), abs(y1 - y0)))
        painter = self.output.painter
        if line_style in ("-", "solid"):
            painter.box((x0, y0, x1, y1), edge_color, width=width, alpha=alpha)
        else:
            corners = np.asarray([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
            painter.line(
                corners, edge_color, width=width, alpha=alpha, style=line_style, closed=True
            )
        return self.output

    def draw_rotated_box_with_label(
        self,
        rotated_box: Sequence[float],
        alpha: float = 0.5,
        edge_color: Any = "g",
        line_style: str = "-",
        label: str | None = None,
    ) -> VisImage:
        """Draw a rotated box, its upper edge dashed, with a label along that edge.

        Args:
            rotated_box: center x, center y, width, height, degrees counter-clockwise.
            alpha: opacity.
            edge_color: of the outline.
            line_style: of the other edges.
            label: a text, at the corner that is top-left before turning.
        """
        x, y, width, height, degrees = (float(v) for v in rotated_box)
        cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        unturned = np.asarray([[-1, 1], [-1, -1], [1, -1], [1, 1]]) * (width / 2, height / 2)
        corners = unturned @ np.asarray([[cos, -sin], [sin, cos]]) + (x, y)
        scale = self.output.scale
        thick = self._line_width(min(width, height) * scale)
        for i in range(4):
            edge = corners[[i, (i + 1) % 4]] * scale
            style = "--" if i == 1 else line_style
            self.output.painter.line(
                edge, edge_color, width=thick, alpha=max(alpha, 0.9), style=style
            )
        if label is not None:
            ratio = height / np.sqrt(self.output.height * self.output.width)
            points = np.clip((ratio - 0.02) / 0.08 + 1, 1.2, 2) * 0.5 * self._default_font_size
            size = max(self.output.pixels(float(points)), 8.0)
            place = [tuple(corners[1] * scale)]
            ink = contrasting(to_rgb(edge_color))
            self.output.add_label(Label(label, size, place, ink, edge_color, 0.92, degrees))
        return self.output

    def draw_circle(self, circle_coord: Sequence[float], color: Any, radius: float = 3) -> VisImage:
        """Fill a disk around x, y."""
        x, y = (float(v) * self.output.scale for v in circle_coord)
        self.output.painter.disk((x, y), radius * self.output.scale, color)
        return self.output

    def draw_line(
        self,
        x_data: Sequence[float],
        y_data: Sequence[float],
        color: Any,
        linestyle: str = "-",
        linewidth: float | None = None,
    ) -> VisImage:
        """Draw a line through points; ``linewidth`` is in points."""
        if linewidth is None:
            linewidth = self._default_font_size / 3
        points = np.stack([_array(x_data), _array(y_data)], axis=1) * self.output.scale
        width = self.output.pixels(max(linewidth, 1))
        self.output.painter.line(points, color, width=width, style=linestyle)
        return self.output

    def draw_binary_mask(
        self,
        binary_mask: Any,
        color: Any = None,
        *,
        edge_color: Any = None,
        text: str | None = None,
        alpha: float = 0.5,
        area_threshold: float = 10,
    ) -> VisImage:
        """Draw a mask ``(H, W)`` of zeros and ones.

        Args:
            binary_mask: tensor or array.
            color: of the mask; by default one of the palette.
            edge_color: of its outline; None draws none.
            text: written on its largest part, and on others that are very large.
            alpha: opacity.
            area_threshold: connected parts of fewer pixels are left out.
        """
        color = self._some_color() if color is None else to_rgb(color)
        regions, areas = label_regions(_array(binary_mask))
        large = areas >= (area_threshold or 0)
        shown = np.concatenate([[False], large])[regions]
        self.output.painter.mask(
            shown, color, alpha=alpha, edge_color=edge_color, edge_width=self._edge_width()
        )
        if text is not None and large.any():
            named = (areas > _LARGE_MASK_AREA_THRESH) | (areas == areas.max())
            for number in np.nonzero(named & large)[0] + 1:
                self._draw_text_in_mask(regions == number, text, shade(color, 0.7))
        return self.output

    def draw_soft_mask(
        self, soft_mask: Any, color: Any = None, *, text: str | None = None, alpha: float = 0.5
    ) -> VisImage:
        """Draw a mask ``(H, W)`` of opacities in [0, 1]; ``text`` goes where it is above 0.5."""
        color = self._some_color() if color is None else to_rgb(color)
        soft_mask = _array(soft_mask)
        self.output.painter.soft_mask(soft_mask, color, alpha=alpha)
        if text is not None and (soft_mask > 0.5).any():
            self._draw_text_in_mask(soft_mask > 0.5, text, shade(color, 0.7))
        return self.output

    def draw_polygon(
        self, segment: Any, color: Any, edge_color: Any = None, alpha: float = 0.5
    ) -> VisImage:
        """Draw a polygon ``(P, 2)``; its outline is of its colour, darker if it is opaque."""
        points = _array(segment).reshape(-1, 2) * self.output.scale
        if edge_color is None:
            edge_color = shade(color, -0.7) if alpha > 0.8 else color
        self.output.painter.polygon(points, color, alpha=alpha)
        self.output.painter.line(points, edge_color, width=self._edge_width(), closed=True)
        return self.output

    def get_output(self) -> VisImage:
        """Return the picture with everything drawn so far."""
        return self.output

    # Helpers, some of which subclasses elsewhere call or override

    def _edge_width(self) -> float:
        return max(self.output.pixels(self._default_font_size // 15), 1.4)

    def _line_width(self, side: float) -> float:
        """Pick a line width, in pixels, for an object whose shorter side is ``side`` pixels."""
        usual = max(self.output.pixels(self._default_font_size / 6), 1.4)
        return float(np.clip(side / 12, 1.2, usual))

    def _some_color(self) -> RGB:
        return palette_color(self._random.randrange(20))

    def _class_color(self, index: int, *, vary: bool = True) -> RGB:
        known = self.metadata.get("thing_colors", None)
        color = [v / 255 for v in known[index]] if known else palette_color(index)
        return self._jitter(color) if vary else to_rgb(color)

    def _stuff_color(self, index: int) -> RGB:
        known = self.metadata.get("stuff_colors", None) or ()
        return (
            to_rgb([v / 255 for v in known[index]]) if index < len(known) else palette_color(index)
        )

    def _jitter(self, color: Any) -> RGB:
        return jitter(color, self._random)

    def _create_grayscale_image(self, mask: Any = None) -> np.ndarray:
        grey = self.img.astype(np.float32).mean(axis=2, keepdims=True).repeat(3, axis=2)
        if mask is not None:
            mask = _array(mask) != 0
            grey[mask] = self.img[mask]
        return grey

    def _change_color_brightness(self, color: Any, brightness_factor: float) -> RGB:
        return shade(color, brightness_factor)

    def _convert_boxes(self, boxes: Any) -> np.ndarray:
        if isinstance(boxes, Boxes | RotatedBoxes):
            boxes = boxes.tensor
        boxes = _array(boxes)
        return boxes.reshape(0, 4) if boxes.size == 0 and boxes.ndim < 2 else boxes

    def _convert_masks(self, masks_or_polygons: Any) -> list[GenericMask]:
        masks = masks_or_polygons
        if isinstance(masks, PolygonMasks):
            masks = masks.polygons
        elif isinstance(masks, BitMasks):
            masks = _array(masks.tensor)
        height, width = self.output.height, self.output.width
        return [
            m
            if isinstance(m, GenericMask)
            else GenericMask(_array(m) if isinstance(m, torch.Tensor) else m, height, width)
            for m in masks
        ]

    def _convert_keypoints(self, keypoints: Any) -> np.ndarray:
        return _array(keypoints.tensor if isinstance(keypoints, Keypoints) else keypoints)

    def _draw_text_in_mask(self, binary_mask: np.ndarray, text: str, color: Any) -> None:
        """Write a text on the thickest part of a mask that is not empty."""
        size = self.output.pixels(self._default_font_size)
        x, y = (v * self.output.scale for v in label_spot(binary_mask))
        width, height = tag_size(text, size)
        steps = (0.0, 1.1, -1.1, 2.2, -2.2)
        places = [(x - width / 2, y + (k - 0.5) * height) for k in steps]
        ink = np.maximum(to_rgb(color), 0.2)
        ink[np.argmax(ink)] = max(0.8, ink.max())
        self.output.add_label(Label(text, size, places, to_rgb(ink), _BLACK, 0.75))


def _read_image(file_name: str) -> np.ndarray:
    with PathManager.open(file_name, "rb") as f:
        return np.asarray(Image.open(f))
