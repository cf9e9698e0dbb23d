"""The loss of models for single objects."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from retinue.projects.meshrcnn.ops import (
    Meshes,
    chamfer_distance,
    mesh_edge_loss,
    sample_points_from_meshes,
)

__all__ = ["MeshLoss"]


class MeshLoss(nn.Module):
    """Cross entropy of voxels; chamfer, normal and edge losses of meshes, means over stages.

    Args:
        chamfer_weight: factor of the distance.
        normal_weight: factor of the normals' tilt.
        edge_weight: factor of the edges' squared length.
        voxel_weight: factor of the cross entropy.
        gt_num_samples: points on a true mesh.
        pred_num_samples: points on a predicted mesh.
    """

    def __init__(
        self,
        chamfer_weight: float = 1.0,
        normal_weight: float = 0.0,
        edge_weight: float = 0.1,
        voxel_weight: float = 0.0,
        gt_num_samples: int = 5000,
        pred_num_samples: int = 5000,
    ) -> None:
        super().__init__()
        self.weights = {"chamfer": chamfer_weight, "normal": normal_weight, "edge": edge_weight}
        self.voxel_weight = voxel_weight
        self.gt_num_samples = gt_num_samples
        self.pred_num_samples = pred_num_samples

    def forward(
        self,
        voxel_scores: torch.Tensor | None,
        meshes_pred: Sequence[Meshes],
        voxels_gt: torch.Tensor | None,
        meshes_gt: Meshes | tuple[torch.Tensor, torch.Tensor],
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Compare predictions with the truth.

        Args:
            voxel_scores: ``(N, G, G, G)`` logits, if any.
            meshes_pred: N meshes after each stage.
            voxels_gt: ``(N, G, G, G)`` 0 or 1.
            meshes_gt: N meshes, or points and normals ``(N, S, 3)`` on them.

        Returns:
            The loss, and its parts without their weights: ``voxel``, ``chamfer_0``, ...
        """
        if isinstance(meshes_gt, Meshes):
            meshes_gt = sample_points_from_meshes(meshes_gt, self.gt_num_samples, True)
        points, normals = meshes_gt
        total = points.new_zeros(())
        parts: dict[str, torch.Tensor] = {}
        if voxel_scores is not None and voxels_gt is not None and self.voxel_weight > 0:
            parts["voxel"] = F.binary_cross_entropy_with_logits(
                voxel_scores, voxels_gt.to(voxel_scores)
            )
            total = total + self.voxel_weight * parts["voxel"]
        for stage, meshes in enumerate(meshes_pred if any(self.weights.values()) else ()):
            values = self._of_meshes(meshes, points, normals)
            for name, value in values.items():
                parts[f"{name}_{stage}"] = value
                total = total + self.weights[name] * value / len(meshes_pred)
        return total, parts

    def _of_meshes(
        self, meshes: Meshes, points: torch.Tensor, normals: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        pred_points, pred_normals = sample_points_from_meshes(meshes, self.pred_num_samples, True)
        chamfer, normal = chamfer_distance(
            pred_points, points, x_normals=pred_normals, y_normals=normals
        )
        return {"chamfer": chamfer, "normal": normal, "edge": mesh_edge_loss(meshes)}
