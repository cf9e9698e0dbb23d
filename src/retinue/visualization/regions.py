"""Regions of a binary mask: connected components, outlines, and where a label fits best.

Shapes
    H, W rows and columns of the mask; P points of an outline.

Units
    Outlines run along pixel borders: x, y in pixels, (0, 0) is the top-left corner of the
    top-left pixel, so that filling an outline gives back the mask exactly.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFilter

__all__ = ["label_regions", "label_spot", "outlines", "polygon_area"]


def _runs(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return row, first and one past the last column of each horizontal run of set pixels."""
    padded = np.zeros((mask.shape[0], mask.shape[1] + 2), dtype=np.int8)
    padded[:, 1:-1] = mask
    steps = np.diff(padded, axis=1)
    rows, starts = np.nonzero(steps == 1)
    return rows, starts, np.nonzero(steps == -1)[1]


def label_regions(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number the 8-connected regions of a mask.

    Args:
        mask: ``(H, W)``, set where not zero.

    Returns:
        ``(H, W)`` int64 labels, 0 outside, and ``(num_regions,)`` int64 areas of label 1, 2, ...
    """
    mask = np.asarray(mask) != 0
    height, width = mask.shape
    rows, starts, ends = _runs(mask)
    # Runs of one row are apart and in order; those of the row above that touch run i, diagonally
    # included, are first[i] to last[i]. Keys make one sorted axis of all rows.
    stride = width + 2
    first = np.searchsorted(rows * stride + ends, (rows - 1) * stride + starts)
    last = np.searchsorted(rows * stride + starts, (rows - 1) * stride + ends, side="right")
    num_above = np.maximum(last - first, 0)
    below = np.repeat(np.arange(len(rows)), num_above)
    offset = np.arange(len(below)) - np.repeat(np.cumsum(num_above) - num_above, num_above)
    above = np.repeat(first, num_above) + offset

    root = np.arange(len(rows))
    while True:  # every run takes the smallest number among its neighbours, then jumps along
        before = root.copy()
        smallest = np.minimum(root[below], root[above])
        np.minimum.at(root, root[below], smallest)
        np.minimum.at(root, root[above], smallest)
        root = root[root]
        if np.array_equal(root, before):
            break
    _, number = np.unique(root, return_inverse=True)
    number = number.reshape(-1) + 1
    labels = np.zeros((height, width), dtype=np.int64)
    labels[mask] = np.repeat(number, ends - starts)
    return labels, np.bincount(labels.reshape(-1))[1:]


def outlines(mask: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Trace the outlines of a mask along pixel borders.

    Args:
        mask: ``(H, W)``, set where not zero.

    Returns:
        Outer outlines and outlines of holes, each ``(P, 2)`` float64 corners. Outer ones run
        clockwise on the screen, holes the other way round. Diagonal neighbours are connected.
    """
    edges = _border_edges(np.asarray(mask) != 0)
    outer: list[np.ndarray] = []
    holes: list[np.ndarray] = []
    while edges:
        ring = _walk(edges)
        (outer if polygon_area(ring) > 0 else holes).append(ring)
    return outer, holes


_Corner = tuple[int, int]


def _border_edges(mask: np.ndarray) -> dict[_Corner, list[_Corner]]:
    """Map each corner to the directions of the unit edges that leave it, mask on their right."""
    padded = np.pad(mask, 1).astype(np.int8)
    down = np.diff(padded, axis=0)  # [j, i]: the line y = j above pixel (j, i - 1)
    across = np.diff(padded, axis=1)  # [j, i]: the line x = i left of pixel (j - 1, i)
    kinds = (
        (down == 1, -1, 0, (1, 0)),  # upper border of a pixel: starts at (i - 1, j), runs right
        (down == -1, 0, 0, (-1, 0)),
        (across == 1, 0, 0, (0, -1)),
        (across == -1, 0, -1, (0, 1)),
    )
    edges: dict[_Corner, list[_Corner]] = {}
    for where, dx, dy, direction in kinds:
        ys, xs = np.nonzero(where)
        for corner in zip((xs + dx).tolist(), (ys + dy).tolist(), strict=True):
            edges.setdefault(corner, []).append(direction)
    return edges


def _walk(edges: dict[_Corner, list[_Corner]]) -> np.ndarray:
    """Take one closed path out of ``edges``; return its corners ``(P, 2)``."""
    start = at = next(iter(edges))
    first = step = edges[start][0]
    path: list[_Corner] = [start]
    while True:
        edges[at].remove(step)
        if not edges[at]:
            del edges[at]
        heading, at = step, (at[0] + step[0], at[1] + step[1])
        options = edges.get(at, []) + ([first] if at == start else [])
        # Where two paths cross, turning left keeps diagonal neighbours together.
        left = (heading[1], -heading[0])
        step = left if left in options else options[0]
        if at == start and step == first:
            return np.asarray(path[1:] if heading == first else path, dtype=np.float64)
        if step != heading:
            path.append(at)


def polygon_area(points: np.ndarray) -> float:
    """Return the signed area of a ``(P, 2)`` polygon, positive if clockwise on the screen."""
    x, y = np.asarray(points, dtype=np.float64).T
    return float(0.5 * np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y))


def label_spot(mask: np.ndarray) -> tuple[float, float]:
    """Return the x, y in the middle of the thickest part of a mask that is not empty.

    The mask is worn away from its border, as far as it lasts, at reduced size.
    """
    ys, xs = np.nonzero(mask)
    x0, y0, x1, y1 = xs.min(), ys.min(), xs.max() + 1, ys.max() + 1
    crop = Image.fromarray(np.where(mask[y0:y1, x0:x1], np.uint8(255), np.uint8(0)))
    crop.thumbnail((64, 64), Image.Resampling.BOX)
    small = Image.new("L", (crop.width + 2, crop.height + 2))
    small.paste(crop, (1, 1))
    left = np.asarray(small) >= min(128, int(np.asarray(small).max()))
    worn = small.point(lambda v: 255 if v >= 128 else 0)
    while worn.getbbox() is not None:
        left = np.asarray(worn) > 0
        worn = worn.filter(ImageFilter.MinFilter(3))
    ys, xs = np.nonzero(left)
    middle = np.argmin((xs - xs.mean()) ** 2 + (ys - ys.mean()) ** 2)  # a pixel of it
    x = (xs[middle] - 0.5) * (x1 - x0) / crop.width + x0
    y = (ys[middle] - 0.5) * (y1 - y0) / crop.height + y0
    return float(x), float(y)
