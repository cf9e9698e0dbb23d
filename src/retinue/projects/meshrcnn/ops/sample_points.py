"""Points on the surface of meshes, at random."""

from __future__ import annotations

from typing import Literal, overload

import torch

from retinue.projects.meshrcnn.ops.meshes import Meshes, face_areas_normals

__all__ = ["sample_points_from_meshes"]


@overload
def sample_points_from_meshes(
    meshes: Meshes, num_samples: int = ..., return_normals: Literal[False] = ...
) -> torch.Tensor: ...


@overload
def sample_points_from_meshes(
    meshes: Meshes, num_samples: int, return_normals: Literal[True]
) -> tuple[torch.Tensor, torch.Tensor]: ...


def sample_points_from_meshes(
    meshes: Meshes, num_samples: int = 10000, return_normals: bool = False
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """Draw points uniformly from the surface of each mesh.

    A face is drawn by its area, then a point in it; gradients flow to the face's vertices. Smith et
    al., "GEOMetrics" (2019), section 3.1.

    Args:
        meshes: N meshes.
        num_samples: S, of each mesh.
        return_normals: return the normal of each point's face, too.

    Returns:
        ``(N, S, 3)`` points, and normals of length 1. Both are 0 for a mesh without faces.
    """
    verts, faces = meshes.verts_packed(), meshes.faces_packed()
    num = len(meshes)
    points = verts.new_zeros(num, num_samples, 3)
    normals = torch.zeros_like(points)
    has_faces = meshes.valid.nonzero().flatten()
    if len(has_faces):
        areas, face_normals = face_areas_normals(verts, faces)
        drawn = _draw_faces(areas.detach(), meshes, num_samples)[has_faces]  # (M, S)
        # The root spreads points evenly; without, they would crowd at the first corner.
        u = torch.rand(drawn.shape, dtype=verts.dtype, device=verts.device).sqrt()
        v = torch.rand(drawn.shape, dtype=verts.dtype, device=verts.device)
        weights = torch.stack((1 - u, u * (1 - v), u * v), dim=2)  # (M, S, 3)
        inside = (weights[..., None] * verts[faces[drawn]]).sum(dim=2)
        points = points.index_copy(0, has_faces, inside)
        normals = normals.index_copy(0, has_faces, face_normals[drawn])
    return (points, normals) if return_normals else points


def _draw_faces(areas: torch.Tensor, meshes: Meshes, num_samples: int) -> torch.Tensor:
    """Return ``(N, S)`` indices of faces, drawn by area; of a mesh without area, alike."""
    owner = meshes.faces_packed_to_mesh_idx()
    first = meshes.mesh_to_faces_packed_first_idx()
    longest = int(meshes.num_faces_per_mesh().max())
    within = torch.arange(len(owner), device=owner.device) - first[owner]
    padded = areas.new_zeros(len(meshes), longest)
    padded[owner, within] = areas.nan_to_num(posinf=0.0)
    exists = torch.zeros_like(padded)
    exists[owner, within] = 1.0
    exists[:, 0] = 1.0  # a mesh without faces has a place to draw from; it is dropped later
    weights = torch.where(padded.sum(dim=1, keepdim=True) > 0, padded, exists)
    return weights.multinomial(num_samples, replacement=True) + first[:, None]
