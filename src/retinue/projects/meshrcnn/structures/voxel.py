"""Voxels of the objects of an image, kept as points: the centres of those that are filled."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional as F

from retinue.projects.meshrcnn.structures.rows import ObjectList
from retinue.projects.meshrcnn.utils import shape as shape_utils
from retinue.utils.errors import expect_shape

__all__ = [
    "VoxelInstances",
    "batch_crop_voxels_within_box",
    "downsample",
    "normalize_verts",
    "verts2voxel",
]


ROUNDING = 1e-4  # cells; the farthest point is at 1, where rounding must not decide


class VoxelInstances(ObjectList[torch.Tensor]):
    """Points ``(P, 3)`` of each object, to be a field of ``Instances``."""


def batch_crop_voxels_within_box(
    voxels: VoxelInstances, boxes: torch.Tensor, Ks: torch.Tensor, voxel_side_len: int
) -> torch.Tensor:
    """Return each object's voxels in the space of its box and its own range of depth.

    Args:
        voxels: R objects of one image, in camera space.
        boxes: ``(R, 4)`` x0, y0, x1, y1 in pixels.
        Ks: ``(R, 3)`` focal length and principal point, the middle of the image, in pixels.
        voxel_side_len: V.

    Returns:
        ``(R, V, V, V)`` float32, 0 or 1, axes z away, y down, x right.
    """
    points = torch.cat([boxes.new_zeros(0, 3), *(v.to(boxes) for v in voxels)])
    counts = torch.tensor([len(v) for v in voxels], dtype=torch.int64, device=boxes.device)
    owner = torch.repeat_interleave(counts)
    ranges = shape_utils.depth_ranges(points, owner, len(boxes))
    cuboids = shape_utils.box2D_to_cuboid3D(ranges, Ks.to(boxes), boxes, Ks[:, 1:] * 2)
    inside = shape_utils.camera_to_box(points, owner, cuboids)
    # Places along x and y are counted from the far end of the box, as axes in camera space are.
    grid = _fill(inside * inside.new_tensor([-1, -1, 1]), owner, len(boxes), [voxel_side_len] * 3)
    return grid.flip(1, 2).permute(0, 3, 1, 2)


def _fill(
    points: torch.Tensor, owner: torch.Tensor, num: int, size_yxz: Sequence[int]
) -> torch.Tensor:
    """Return ``(N, H, W, D)`` grids over [-1, 1], 1 where there is a point."""
    size_xyz = torch.tensor([size_yxz[1], size_yxz[0], size_yxz[2]], device=points.device)
    at = (points + 1) * (size_xyz - 1) / 2
    cell = (at + ROUNDING).long()  # (P, 3), towards 0
    inside = ((cell >= 0) & (cell < size_xyz)).all(dim=1)
    x, y, z = cell[inside].unbind(dim=1)
    grid = torch.zeros(num, *size_yxz, device=points.device)
    grid[owner[inside], y, x, z] = 1.0
    return grid


def verts2voxel(verts: torch.Tensor, voxel_size: Sequence[int]) -> torch.Tensor:
    """Return the grid over [-1, 1] that is 1 where there is a point.

    Args:
        verts: ``(P, 3)`` x to the left, y up, z away; those outside are left out.
        voxel_size: H, W, D.

    Returns:
        ``(H, W, D)`` float32, axes y down, x right, z away.
    """
    expect_shape("verts2voxel: verts", verts, ("P", 3))
    owner = torch.zeros(len(verts), dtype=torch.int64, device=verts.device)
    return _fill(verts, owner, 1, voxel_size)[0].flip(0, 1)


def downsample(vox_in: torch.Tensor, n: int, use_max: bool = True) -> torch.Tensor:
    """Shrink a grid ``(H, W, D)`` n times along each axis, by the greatest or mean value."""
    pool = F.max_pool3d if use_max else F.avg_pool3d
    return pool(vox_in[None].float(), n)[0]


def normalize_verts(verts: torch.Tensor) -> torch.Tensor:
    """Return points ``(P, 3)`` moved and stretched to reach from -1 to 1 along each axis."""
    low, high = verts.amin(dim=0), verts.amax(dim=0)
    return (verts - (low + high) / 2) * 2 / (high - low)
