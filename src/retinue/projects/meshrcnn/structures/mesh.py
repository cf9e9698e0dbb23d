"""Meshes of the objects of an image."""

from __future__ import annotations

from typing import Any

import torch

from retinue.projects.meshrcnn.ops import Meshes
from retinue.projects.meshrcnn.structures.rows import ObjectList
from retinue.projects.meshrcnn.utils import shape as shape_utils

__all__ = ["MeshInstances", "batch_crop_meshes_within_box"]


class MeshInstances(ObjectList[tuple[torch.Tensor, torch.Tensor]]):
    """Vertices ``(V, 3)`` and faces ``(F, 3)`` of each object, to be a field of ``Instances``."""

    @staticmethod
    def _move(entry: Any, device: Any) -> Any:
        return entry[0].to(device), entry[1].to(device)


def batch_crop_meshes_within_box(
    meshes: MeshInstances, boxes: torch.Tensor, Ks: torch.Tensor
) -> Meshes:
    """Return each mesh in the space of its box and its own range of depth.

    Args:
        meshes: R meshes of one image, in camera space.
        boxes: ``(R, 4)`` x0, y0, x1, y1 in pixels.
        Ks: ``(R, 3)`` focal length and principal point, the middle of the image, in pixels.
    """
    if not len(meshes):
        return Meshes([], [])
    batch = Meshes([m[0] for m in meshes], [m[1] for m in meshes]).to(boxes.device)
    points, owner = batch.verts_packed(), batch.verts_packed_to_mesh_idx()
    ranges = shape_utils.depth_ranges(points, owner, len(batch))
    cuboids = shape_utils.box2D_to_cuboid3D(ranges, Ks, boxes, Ks[:, 1:] * 2)
    return batch.with_verts(shape_utils.camera_to_box(points, owner, cuboids.to(points)))
