"""Overlap of boxes and greedy suppression, one pair at a time; slow and obviously right."""

import math

import torch


def iou(a, b):
    """IoU of upright boxes (x0, y0, x1, y1), nan if both are empty."""
    width = max(min(a[2], b[2]) - max(a[0], b[0]), 0)
    height = max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    common = width * height
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common
    return common / union if union else math.nan


def corners(box):
    """Corners of a rotated box, counter-clockwise in its own right-handed axes."""
    x, y, w, h, angle = box
    c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    offsets = [(w / 2, h / 2), (-w / 2, h / 2), (-w / 2, -h / 2), (w / 2, -h / 2)]
    return [(x + u * c + v * s, y - u * s + v * c) for u, v in offsets]


def area(polygon):
    pairs = zip(polygon, polygon[1:] + polygon[:1], strict=True)
    return sum(a[0] * b[1] - b[0] * a[1] for a, b in pairs) / 2


def clip(polygon, start, end):
    """The part of a polygon to the left of the line from start to end (Sutherland-Hodgman)."""

    def side(p):
        return (end[0] - start[0]) * (p[1] - start[1]) - (end[1] - start[1]) * (p[0] - start[0])

    kept = []
    for p, q in zip(polygon, polygon[1:] + polygon[:1], strict=True):
        sp, sq = side(p), side(q)
        if sp >= 0:
            kept.append(p)
        if sp * sq < 0:
            t = sp / (sp - sq)
            kept.append((p[0] + t * (q[0] - p[0]), p[1] + t * (q[1] - p[1])))
    return kept


def iou_rotated(a, b):
    """IoU of rotated boxes (x, y, width, height, degrees), 0 if one of them is empty."""
    area_a, area_b = a[2] * a[3], b[2] * b[3]
    if area_a < 1e-14 or area_b < 1e-14:
        return 0.0
    polygon, window = corners(a), corners(b)
    for start, end in zip(window, window[1:] + window[:1], strict=True):
        polygon = clip(polygon, start, end) if polygon else polygon
    common = area(polygon) if polygon else 0.0
    return common / (area_a + area_b - common)


def nms(boxes, scores, threshold, idxs=None, overlap=iou):
    """Greedy suppression, in the boxes' order where scores are equal."""
    groups = [0] * len(boxes) if idxs is None else idxs.tolist()
    rows = boxes.double().tolist()
    kept = []
    for i in scores.argsort(descending=True, stable=True).tolist():
        rivals = [k for k in kept if groups[k] == groups[i]]
        if not any(overlap(rows[k], rows[i]) > threshold for k in rivals):
            kept.append(i)
    return torch.tensor(kept, dtype=torch.int64)
