"""Annotated points, seen from a box.

Shapes
    R regions, all images together; P points of each.
"""

from collections.abc import Sequence

import torch

from retinue.structures import Instances

__all__ = ["get_point_coords_from_point_annotation", "get_point_coords_wrt_box"]

IGNORED = -1


def get_point_coords_from_point_annotation(
    instances: Sequence[Instances],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Collect the points of all proposals, relative to each proposal's box.

    Args:
        instances: per image, with ``proposal_boxes``, ``gt_point_coords`` in pixels and
            ``gt_point_labels``: 1 inside the object, 0 outside, -1 ignored. At least one proposal.

    Returns:
        ``(R, P, 2)`` in [0, 1] of the box, and labels ``(R, P)``; points outside the box are
        ignored.
    """
    instances = [i for i in instances if len(i)]
    points = torch.cat([i.gt_point_coords for i in instances])
    labels = torch.cat([i.gt_point_labels for i in instances])
    dtype = torch.promote_types(points.dtype, torch.float32)
    boxes = torch.cat([i.proposal_boxes.tensor for i in instances])
    points = get_point_coords_wrt_box(boxes, points.to(dtype))
    outside = ((points < 0) | (points > 1)).any(dim=2)
    return points, labels.to(dtype).masked_fill(outside, IGNORED)


@torch.no_grad()
def get_point_coords_wrt_box(
    boxes_coords: torch.Tensor, point_coords: torch.Tensor
) -> torch.Tensor:
    """Turn points in pixels ``(R, P, 2)`` into [0, 1] of boxes ``(R, 4)``, x0, y0, x1, y1."""
    low, high = boxes_coords[:, None].split(2, dim=2)  # (R, 1, 2) each
    return (point_coords - low) / (high - low)
