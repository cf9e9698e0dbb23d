"""Spheres of triangles."""

import math
from typing import Any

import torch

from retinue.projects.meshrcnn.ops.meshes import Meshes
from retinue.projects.meshrcnn.ops.subdivide import SubdivideMeshes
from retinue.utils.errors import InputError

__all__ = ["ico_sphere"]


def ico_sphere(level: int = 0, device: Any = None, dtype: torch.dtype = torch.float32) -> Meshes:
    """Return one unit sphere: an icosahedron, its faces split into four ``level`` times.

    Args:
        level: 0 for the icosahedron; the sphere has ``20 * 4 ** level`` faces.
        device: where to.
        dtype: of the vertices.

    Raises:
        InputError: If ``level`` is negative.
    """
    if level < 0:
        raise InputError(f"ico_sphere: level must be 0 or more; got {level}")
    mesh = _icosahedron(dtype).to(device if device is not None else "cpu")
    for _ in range(level):
        mesh = SubdivideMeshes()(mesh)
        mesh = mesh.with_verts(torch.nn.functional.normalize(mesh.verts_packed(), dim=1))
    return mesh


def _icosahedron(dtype: torch.dtype) -> Meshes:
    """Three golden rectangles at right angles; faces are the triples of nearest vertices."""
    golden = (1 + math.sqrt(5)) / 2
    signs = torch.tensor([[-1.0, -1], [-1, 1], [1, -1], [1, 1]], dtype=torch.float64)
    flat = torch.cat((signs * signs.new_tensor([1, golden]), torch.zeros_like(signs[:, :1])), dim=1)
    verts = torch.nn.functional.normalize(
        torch.cat([flat.roll(k, dims=1) for k in range(3)]), dim=1
    )

    triples = torch.combinations(torch.arange(12), 3)
    a, b, c = verts[triples].unbind(dim=1)
    sides = torch.stack(((a - b).norm(dim=1), (b - c).norm(dim=1), (c - a).norm(dim=1)))
    faces = triples[sides.max(dim=0).values < 1.1]  # edges have length 1.05, diagonals 1.70
    a, b, c = verts[faces].unbind(dim=1)
    inwards = (torch.linalg.cross(b - a, c - a) * a).sum(dim=1) < 0
    faces = torch.where(inwards[:, None], faces.flip(1), faces)
    return Meshes([verts.to(dtype)], [faces])
