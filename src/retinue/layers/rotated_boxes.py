"""Intersection over union of rotated boxes, exactly.

Shapes
    N, M boxes; E pairs of boxes.

Units
    A rotated box is (x centre, y centre, width, height, angle), in pixels and in degrees
    counter-clockwise as one sees the image, whose y axis points down.

The area common to a convex polygon and a rectangle is an integral over the polygon's outline: in
the rectangle's own axes (u, v), ``area = ∮ clamp(u, -w/2, w/2) dv`` over the part of the outline
with ``|v| <= h/2``. For a straight edge it has a closed form without special cases, so that
touching, equal and degenerate boxes need no care.
"""

from __future__ import annotations

import torch

from retinue.layers.operators import register_operator
from retinue.utils.errors import expect_shape

__all__ = ["pairwise_iou_rotated"]

# Pairs looked at together; bounds memory at some 100 MB.
_MAX_PAIRS = 1 << 20
# A box with less area than this overlaps nothing.
_MIN_AREA = 1e-14


def upright_bounds(boxes: torch.Tensor) -> torch.Tensor:
    """Return the upright boxes ``(N, 4)``, x0, y0, x1, y1, around rotated boxes ``(N, 5)``."""
    angle = boxes[:, 4:].deg2rad()
    cos, sin, size = angle.cos().abs(), angle.sin().abs(), boxes[:, 2:4].abs()
    half = (cos * size + sin * size.flip(1)) / 2
    return torch.cat([boxes[:, :2] - half, boxes[:, :2] + half], dim=1)


def _edge_integral(
    u0: torch.Tensor, v0: torch.Tensor, u1: torch.Tensor, v1: torch.Tensor, size: torch.Tensor
) -> torch.Tensor:
    """Integrate ``clamp(u, -w/2, w/2) dv`` over the part of an edge with ``|v| <= h/2``."""
    half_w, half_h = size[..., 0] / 2, size[..., 1] / 2
    du, dv = u1 - u0, v1 - v0
    safe_dv = torch.where(dv == 0, 1.0, dv)
    v_in, v_out = v0.clamp(-half_h, half_h), v1.clamp(-half_h, half_h)
    u_in = u0 + du * ((v_in - v0) / safe_dv)
    u_out = u0 + du * ((v_out - v0) / safe_dv)
    # u is linear from u_in to u_out; the part of it outside the clamp counts at the clamp's end.
    a, b = u_in.clamp(-half_w, half_w), u_out.clamp(-half_w, half_w)
    span = u_out - u_in
    is_flat = span == 0
    ratio = torch.where(is_flat, 0.0, (a - b) / torch.where(is_flat, 1.0, span))
    mean = ((a + b) + (a + b - u_in - u_out) * ratio) / 2
    return mean * (v_out - v_in)


def _area_of_corners(boxes: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Return the areas ``(E,)`` of boxes as detectron2 finds them for boxes within ``others``.

    It sums triangles between corners, relative to the middle of both centres; the steps and their
    roundings are those of its kernel, so that boxes which tie there tie here.
    """
    dtype = boxes.dtype
    middle = (boxes[:, :2] + others[:, :2]).double() / 2
    x, y = (boxes[:, :2].double() - middle).to(dtype).unbind(1)
    width, height = boxes[:, 2], boxes[:, 3]
    radians = boxes[:, 4].double() * 0.01745329251
    cos, sin = radians.cos().to(dtype) * 0.5, radians.sin().to(dtype) * 0.5
    x0, x1 = x + sin * height + cos * width, x - sin * height + cos * width
    y0, y1 = y + cos * height - sin * width, y - cos * height - sin * width
    xs = torch.stack([x0, x1, 2 * x - x0, 2 * x - x1], dim=1)  # (E, 4)
    ys = torch.stack([y0, y1, 2 * y - y0, 2 * y - y1], dim=1)

    is_low = ys == ys.amin(dim=1, keepdim=True)
    start = torch.where(is_low, xs, float("inf")).argmin(dim=1, keepdim=True)
    order = (start - torch.arange(4, device=start.device)) % 4
    dx = (xs.gather(1, order) - xs.gather(1, start)).double()
    dy = (ys.gather(1, order) - ys.gather(1, start)).double()
    cross = (dx[:, 1:3] * dy[:, 2:] - dx[:, 2:] * dy[:, 1:3]).abs()
    total = (cross[:, 0].to(dtype).double() + cross[:, 1]).to(dtype)
    return (total.double() / 2).to(dtype)


def iou_of_rotated_pairs(
    boxes1: torch.Tensor, boxes2: torch.Tensor, *, ties_as_detectron2: bool = False
) -> torch.Tensor:
    """Return the IoU, ``(E,)``, of rotated boxes ``(E, 5)`` row by row; differentiable.

    Args:
        boxes1, boxes2: the pairs.
        ties_as_detectron2: round as it does where one box lies within the other, so that a matcher
            that looks for the best of equals finds the same.
    """
    angle1, angle2 = boxes1[:, 4].deg2rad(), boxes2[:, 4].deg2rad()
    cos2, sin2 = angle2.cos(), angle2.sin()
    turn = angle1 - angle2
    cos, sin = turn.cos(), turn.sin()
    dx, dy = (boxes1[:, :2] - boxes2[:, :2]).unbind(1)
    # Corners of box 1 in the axes of box 2: centre ± half its width ± half its height.
    u, v = dx * cos2 - dy * sin2, dx * sin2 + dy * cos2
    half_w, half_h = boxes1[:, 2] / 2, boxes1[:, 3] / 2
    wu, wv, hu, hv = half_w * cos, -half_w * sin, half_h * sin, half_h * cos
    us = torch.stack([u + wu + hu, u - wu + hu, u - wu - hu, u + wu - hu])  # (4, E)
    vs = torch.stack([v + wv + hv, v - wv + hv, v - wv - hv, v + wv - hv])
    us_next, vs_next = torch.cat([us[1:], us[:1]]), torch.cat([vs[1:], vs[:1]])
    common = _edge_integral(us, vs, us_next, vs_next, boxes2[:, 2:4]).sum(0).abs()
    area1, area2 = boxes1[:, 2] * boxes1[:, 3], boxes2[:, 2] * boxes2[:, 3]
    # Where the boxes are apart, rounding leaves a little of what should cancel.
    eps = 32 * torch.finfo(common.dtype).eps
    common = torch.where(common > eps * area2, common, 0.0)
    if ties_as_detectron2:
        whole1, whole2 = _area_of_corners(boxes1, boxes2), _area_of_corners(boxes2, boxes1)
        smaller, whole = torch.minimum(area1, area2), torch.where(area1 <= area2, whole1, whole2)
        common = torch.where(common >= (1 - eps) * smaller, whole, common)
    is_box = (area1 >= _MIN_AREA) & (area2 >= _MIN_AREA)
    union = torch.where(is_box, area1 + area2 - common, 1.0)
    return torch.where(is_box, common / union, 0.0)


def _touching_pairs(bounds1: torch.Tensor, bounds2: torch.Tensor) -> torch.Tensor:
    """Return the indices ``(E, 2)`` of upright boxes ``(N, 4)``, ``(M, 4)`` that touch."""
    a, b = bounds1.T[:, :, None], bounds2.T[:, None, :]
    touches = (a[0] <= b[2]) & (b[0] <= a[2]) & (a[1] <= b[3]) & (b[1] <= a[3])
    return touches.nonzero().contiguous()


def _fake_touching_pairs(bounds1: torch.Tensor, bounds2: torch.Tensor) -> torch.Tensor:
    num_pairs = torch.library.get_ctx().new_dynamic_size()
    return bounds1.new_empty((num_pairs, 2), dtype=torch.int64)


_touching_pairs_op = register_operator(
    "touching_pairs(Tensor bounds1, Tensor bounds2) -> Tensor",
    _touching_pairs,
    fake=_fake_touching_pairs,
)


def pairwise_iou_rotated(boxes1: torch.Tensor, boxes2: torch.Tensor) -> torch.Tensor:
    """Return the IoU of every rotated box of one set with every one of another.

    Args:
        boxes1: ``(N, 5)``: x and y of the centre, width, height, angle in degrees.
        boxes2: ``(M, 5)``.

    Returns:
        ``(N, M)`` in [0, 1]; 0 for a box without area. Differentiable; half precision is
        computed in float32 and returned so.

    Example:
        >>> square = torch.tensor([[0.0, 0.0, 2.0, 2.0, 0.0]])
        >>> pairwise_iou_rotated(square, square + torch.tensor([1.0, 0.0, 0.0, 0.0, 90.0]))
        tensor([[0.3333]])
    """
    expect_shape("pairwise_iou_rotated: boxes1", boxes1, ("N", 5))
    expect_shape("pairwise_iou_rotated: boxes2", boxes2, ("M", 5))
    dtype = torch.promote_types(torch.promote_types(boxes1.dtype, boxes2.dtype), torch.float32)
    boxes1, boxes2 = boxes1.to(dtype), boxes2.to(dtype)
    if boxes1.is_meta:
        return boxes1.new_empty(boxes1.shape[0], boxes2.shape[0])
    bounds2 = upright_bounds(boxes2).detach()
    rows = []
    for part in boxes1.split(max(1, _MAX_PAIRS // max(1, boxes2.shape[0]))):
        pairs = _touching_pairs_op(upright_bounds(part).detach(), bounds2)
        first, second = pairs.unbind(1)
        iou = iou_of_rotated_pairs(part[first], boxes2[second], ties_as_detectron2=True)
        rows.append(iou.new_zeros(part.shape[0], boxes2.shape[0]).index_put((first, second), iou))
    return torch.cat(rows)
