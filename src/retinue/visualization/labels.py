"""Placing labels so that they stay inside the picture and off one another.

A label names the places where it may go, best first; ``arrange`` takes, one label after the other,
the place that hides least. Rectangles are x0, y0, x1, y1 in pixels of the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from retinue.visualization.canvas import tag_size

__all__ = ["Label", "arrange", "places_around_box", "places_in_mask"]

Rect = tuple[float, float, float, float]


@dataclass(frozen=True)
class Label:
    """A text to be written once the picture is finished.

    Attributes:
        text: one line.
        size: of the letters, in pixels.
        places_xy: top-left corners to choose from, best first; one place is where it will be.
        color: of the letters.
        background: of the plate.
        background_alpha: its opacity.
        rotation: degrees counter-clockwise around the top-left corner.
    """

    text: str
    size: float
    places_xy: Sequence[tuple[float, float]]
    color: Any
    background: Any
    background_alpha: float = 1.0
    rotation: float = 0.0


def places_around_box(
    box_xyxy: Sequence[float] | np.ndarray, text: str, size: float
) -> list[tuple[float, float]]:
    """List where the label of a box may go: at its corners, outside before inside."""
    x0, y0, x1, y1 = box_xyxy
    width, height = tag_size(text, size)
    places = [(x0, y0 - height), (x1 - width, y0 - height), (x0, y1), (x1 - width, y1)]
    sides = [(x1, y0), (x0 - width, y0), (x1, y1 - height), (x0 - width, y1 - height)]
    inside = [(x0, y0), (x1 - width, y0), (x0, y1 - height), (x1 - width, y1 - height)]
    if y1 - y0 > 4 * height and x1 - x0 > width:  # roomy: the label hides nothing of it
        return [places[0], inside[0], *places[1:], *inside[1:], *sides]
    return [*places, *sides, *inside]


def places_in_mask(
    spot_xy: Sequence[float], box_xyxy: Sequence[float] | np.ndarray, text: str, size: float
) -> list[tuple[float, float]]:
    """List where the label of a mask may go: on its thickest part if it fits, else around it."""
    x, y = spot_xy
    x0, y0, x1, y1 = box_xyxy
    width, height = tag_size(text, size)
    middle = (x - width / 2, y - height / 2)
    over, under = (x - width / 2, y0 - height), (x - width / 2, y1)
    around = places_around_box(box_xyxy, text, size)
    if width < 0.8 * (x1 - x0) and 2.2 * height < y1 - y0:
        lower, upper = (middle[0], middle[1] + height), (middle[0], middle[1] - height)
        return [middle, lower, upper, over, under, *around]
    return [over, under, *around, middle]


def _overlap(a: Rect, b: Rect) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return max(width, 0.0) * max(height, 0.0)


def arrange(
    labels: Sequence[Label], picture_wh: tuple[int, int], obstacles: Sequence[Rect] = ()
) -> list[tuple[float, float]]:
    """Choose the place of each label.

    Args:
        labels: those with one place stay there; the others keep off them and each other.
        picture_wh: width and height that labels have to stay in.
        obstacles: small things that are better not hidden, such as boxes of small objects.

    Returns:
        The top-left corner of each label.
    """
    taken = [
        (*label.places_xy[0], *_far_corner(label, label.places_xy[0]))
        for label in labels
        if len(label.places_xy) == 1 and not label.rotation
    ]
    chosen: list[tuple[float, float]] = []
    for label in labels:
        if len(label.places_xy) == 1:
            chosen.append(label.places_xy[0])
            continue
        best = min(
            (
                (_cost(rect, taken, obstacles) + 0.02 * rank + 0.5 * moved, rank, rect)
                for rank, (rect, moved) in enumerate(_inside(label, picture_wh))
            ),
            key=lambda option: option[:2],
        )[2]
        taken.append(best)
        chosen.append(best[:2])
    return chosen


def _far_corner(label: Label, place: tuple[float, float]) -> tuple[float, float]:
    width, height = tag_size(label.text, label.size)
    return place[0] + width, place[1] + height


def _inside(label: Label, picture_wh: tuple[int, int]) -> list[tuple[Rect, float]]:
    """Push each place into the picture; say by how many of its own heights it moved."""
    width, height = tag_size(label.text, label.size)
    rects = []
    for x, y in label.places_xy:
        fit_x = min(max(x, 0.0), max(picture_wh[0] - width, 0.0))
        fit_y = min(max(y, 0.0), max(picture_wh[1] - height, 0.0))
        moved = (abs(fit_x - x) + abs(fit_y - y)) / height
        rects.append(((fit_x, fit_y, fit_x + width, fit_y + height), moved))
    return rects


def _cost(rect: Rect, taken: Sequence[Rect], obstacles: Sequence[Rect]) -> float:
    """Share of a label that lies over others, plus what it hides of small objects."""
    area = (rect[2] - rect[0]) * (rect[3] - rect[1])
    over_labels = sum(_overlap(rect, other) for other in taken)
    over_objects = sum(_overlap(rect, other) for other in obstacles)
    return 4 * over_labels / area + 0.6 * over_objects / area
