"""The camera that pictures of ShapeNet were rendered with: from world space to voxels and back.

Shapes
    N cameras; V points each.

Units
    World space here is the camera's, before projection: x right, y up, the camera looks along -z.
    Projected: x right, y up, each in [-1, 1] over the picture; z between ``Z_RANGE``. Voxel space:
    x right, y down, z away, each in [-1, 1].
"""

from __future__ import annotations

import math

import torch

from retinue.projects.meshrcnn.ops import Meshes
from retinue.utils.errors import expect_shape

__all__ = [
    "SHAPENET_MAX_ZMAX",
    "SHAPENET_MIN_ZMIN",
    "blender_ndc_to_world",
    "compute_extrinsic_matrix",
    "get_blender_intrinsic_matrix",
    "project_verts",
    "voxel_to_world",
    "world_to_voxel",
]

SHAPENET_MIN_ZMIN = 0.67  # of projected z, over all objects
SHAPENET_MAX_ZMAX = 0.92
FOCAL_LENGTH = 2.1875
DEPTH_SCALE, DEPTH_SHIFT = -1.002002, -0.2002002  # of planes at 0.1 and 100


def get_blender_intrinsic_matrix(N: int | None = None) -> torch.Tensor:
    """Return Blender's projection ``(4, 4)``, or N of them ``(N, 4, 4)``."""
    K = torch.diag(torch.tensor([FOCAL_LENGTH, FOCAL_LENGTH, DEPTH_SCALE, 0.0]))
    K[2, 3] = DEPTH_SHIFT
    K[3, 2] = -1.0
    return K if N is None else K.expand(N, 4, 4)


def project_verts(verts: torch.Tensor, P: torch.Tensor, eps: float = 0.1) -> torch.Tensor:
    """Project points by 4x4 matrices.

    Args:
        verts: ``(N, V, 3)``, or ``(V, 3)`` with one matrix.
        P: ``(N, 4, 4)``, or ``(4, 4)``.
        eps: what the fourth coordinate, that is divided by, is at least, by absolute value.
    """
    if P.dim() == 2:
        return project_verts(verts[None], P[None], eps)[0]
    expect_shape("project_verts: verts", verts, (len(P), "V", 3))
    P = P.to(verts)
    mapped = verts @ P[:, :, :3].transpose(1, 2) + P[:, None, :, 3]
    w = mapped[..., 3:]
    w = torch.where(w < 0, w.clamp(max=-eps), w.clamp(min=eps))
    return mapped[..., :3] / w


def blender_ndc_to_world(verts: torch.Tensor) -> torch.Tensor:
    """Undo the projection by :func:`get_blender_intrinsic_matrix` of points ``(V, 3)``."""
    x, y, z = verts.unbind(dim=1)
    depth = -DEPTH_SHIFT / (z + DEPTH_SCALE)
    return torch.stack((-x * depth / FOCAL_LENGTH, -y * depth / FOCAL_LENGTH, depth), dim=1)


def world_to_voxel(verts: torch.Tensor, P: torch.Tensor) -> torch.Tensor:
    """Map points ``(V, 3)`` by a projection ``(4, 4)`` to voxel space."""
    x, y, z = project_verts(verts, P).unbind(dim=1)
    low, high = SHAPENET_MIN_ZMIN, SHAPENET_MAX_ZMAX
    return torch.stack((x, -y, 2 * (z - low) / (high - low) - 1), dim=1)


def voxel_to_world(meshes: Meshes) -> Meshes:
    """Map meshes of voxel space to world space."""
    x, y, z = meshes.verts_packed().unbind(dim=1)
    low, high = SHAPENET_MIN_ZMIN, SHAPENET_MAX_ZMAX
    z = (z + 1) / 2 * (high - low) + low
    return meshes.with_verts(blender_ndc_to_world(torch.stack((x, -y, z), dim=1)))


def compute_extrinsic_matrix(azimuth: float, elevation: float, distance: float) -> torch.Tensor:
    """Return the ``(4, 4)`` matrix from an object's space to that of a camera looking at it.

    Args:
        azimuth: rotation about the vertical, degrees.
        elevation: above the ground, degrees.
        distance: from the object's centre.
    """
    azimuth, elevation = -math.radians(azimuth), -math.radians(elevation)
    sa, ca, se, ce = (f(angle) for angle in (azimuth, elevation) for f in (math.sin, math.cos))
    turn = torch.tensor([[ca * ce, sa * ce, -se], [-sa, ca, 0.0], [ca * se, sa * se, ce]])
    to_camera = torch.tensor([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]])
    matrix = torch.eye(4)
    matrix[:3, :3] = to_camera @ turn
    matrix[:3, 3] = -to_camera @ torch.tensor([distance, 0.0, 0.0])
    # Files of meshes have y up, Blender has z up.
    y_to_z = torch.tensor([[1.0, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
    return matrix @ y_to_z
