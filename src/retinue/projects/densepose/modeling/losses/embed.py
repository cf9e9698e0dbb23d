"""Losses of embeddings: a pixel should be embedded where its vertex is.

Neverova et al., "Continuous Surface Embeddings" (2020), section 3, https://arxiv.org/abs/2011.12438.

Shapes
    J points of one mesh within their regions; V vertices; D dimensions of the space.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from retinue.config import CfgNode
from retinue.projects.densepose.data.meshes.catalog import MeshCatalog
from retinue.projects.densepose.modeling.cse.utils import (
    normalize_embeddings,
    squared_euclidean_distance_matrix,
)
from retinue.projects.densepose.modeling.losses.embed_utils import PackedCseAnnotations
from retinue.projects.densepose.modeling.losses.utils import BilinearInterpolationHelper
from retinue.structures import Instances

__all__ = ["EmbeddingLoss"]


class EmbeddingLoss:
    """Cross-entropy over a mesh's vertices; near ones in the embedding space score high.

    Args:
        cfg: with ``MODEL.ROI_DENSEPOSE_HEAD.CSE``.
    """

    def __init__(self, cfg: CfgNode) -> None:
        cse = cfg.MODEL.ROI_DENSEPOSE_HEAD.CSE
        self.embdist_gauss_sigma = cse.EMBEDDING_DIST_GAUSS_SIGMA

    def __call__(
        self,
        proposals_with_gt: Sequence[Instances],
        densepose_predictor_outputs: Any,
        packed_annotations: PackedCseAnnotations,
        interpolator: BilinearInterpolationHelper,
        embedder: nn.Module,
    ) -> dict[str, torch.Tensor]:
        """Return a scalar for each mesh, 0 for those without annotated points.

        Args:
            proposals_with_gt: not used.
            densepose_predictor_outputs: with ``embedding`` ``(R, D, S, S)``.
            packed_annotations: the points.
            interpolator: where they lie in the predictions.
            embedder: maps a mesh's name to ``(V, D)``.
        """
        at_points = interpolator.extract_all_channels(densepose_predictor_outputs.embedding)
        losses = {}
        for mesh_id in packed_annotations.vertex_mesh_ids_gt.unique().tolist():
            chosen = interpolator.j_valid & (packed_annotations.vertex_mesh_ids_gt == mesh_id)
            if not chosen.any():
                continue
            mesh_name = MeshCatalog.get_mesh_name(mesh_id)
            distances = squared_euclidean_distance_matrix(
                normalize_embeddings(at_points[chosen]), embedder(mesh_name)
            )  # (J, V)
            vertices = packed_annotations.vertex_ids_gt[chosen]
            scores = -distances / self.embdist_gauss_sigma
            losses[mesh_name] = self._mesh_loss(scores, vertices, mesh_name)
        return self.fake_values(densepose_predictor_outputs, embedder) | losses

    def _mesh_loss(
        self, scores: torch.Tensor, vertices: torch.Tensor, mesh_name: str
    ) -> torch.Tensor:
        """Compare scores ``(J, V)`` with vertices ``(J,)``, of which -1 is ignored."""
        return F.cross_entropy(scores, vertices, ignore_index=-1)

    def fake_values(
        self, densepose_predictor_outputs: Any, embedder: nn.Module
    ) -> dict[str, torch.Tensor]:
        """Return 0 for each mesh, depending on all predictions and embedders."""
        return {
            name: self.fake_value(densepose_predictor_outputs, embedder, name)
            for name in embedder.mesh_names  # type: ignore[union-attr]
        }

    def fake_value(
        self, densepose_predictor_outputs: Any, embedder: nn.Module, mesh_name: str
    ) -> torch.Tensor:
        """Return 0 that depends on the predictions and a mesh's embedder."""
        return (densepose_predictor_outputs.embedding.sum() + embedder(mesh_name).sum()) * 0
