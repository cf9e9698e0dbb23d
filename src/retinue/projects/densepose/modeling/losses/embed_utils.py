"""Annotations of surface embeddings: the vertex of a mesh that each point shows."""

from dataclasses import dataclass
from typing import Any

import torch

from retinue.projects.densepose.modeling.losses.utils import RegionAnnotations

__all__ = ["CseAnnotationsAccumulator", "PackedCseAnnotations"]


@dataclass
class PackedCseAnnotations:
    """Annotated points of all regions; see :class:`.PackedChartBasedAnnotations`.

    Attributes:
        vertex_mesh_ids_gt: ``(K,)`` int64, the mesh of each point, as ``MeshCatalog`` numbers it.
        vertex_ids_gt: ``(K,)`` int64, its vertex; -1 if unknown.
    """

    x_gt: torch.Tensor
    y_gt: torch.Tensor
    coarse_segm_gt: torch.Tensor | None
    vertex_mesh_ids_gt: torch.Tensor
    vertex_ids_gt: torch.Tensor
    bbox_xywh_gt: torch.Tensor
    bbox_xywh_est: torch.Tensor
    point_bbox_with_dp_indices: torch.Tensor
    point_bbox_indices: torch.Tensor
    bbox_indices: torch.Tensor


class CseAnnotationsAccumulator(RegionAnnotations):
    """Collects annotations of surface embeddings."""

    def __init__(self) -> None:
        super().__init__()
        self.vertex_mesh_ids_gt: list[torch.Tensor] = []
        self.vertex_ids_gt: list[torch.Tensor] = []

    def _do_accumulate(
        self, box_xywh_gt: torch.Tensor, box_xywh_est: torch.Tensor, dp_gt: Any
    ) -> None:
        super()._do_accumulate(box_xywh_gt, box_xywh_est, dp_gt)
        self.vertex_ids_gt.append(dp_gt.vertex_ids)
        self.vertex_mesh_ids_gt.append(torch.full_like(dp_gt.vertex_ids, dp_gt.mesh_id))

    def pack(self) -> PackedCseAnnotations | None:
        """Return the annotations of all regions; None if no region has any."""
        if not self.x_gt:
            return None
        return PackedCseAnnotations(
            vertex_mesh_ids_gt=torch.cat(self.vertex_mesh_ids_gt),
            vertex_ids_gt=torch.cat(self.vertex_ids_gt),
            **self._packed(),
        )
