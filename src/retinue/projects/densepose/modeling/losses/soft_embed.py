"""The loss of embeddings that forgives neighbours on the surface."""

import torch
from torch.nn import functional as F

from retinue.config import CfgNode
from retinue.projects.densepose.modeling.losses.embed import EmbeddingLoss
from retinue.projects.densepose.structures.mesh import create_mesh

__all__ = ["SoftEmbeddingLoss"]


class SoftEmbeddingLoss(EmbeddingLoss):
    """Cross-entropy against a distribution: vertices near the annotated one share its weight.

    Neverova et al., "Continuous Surface Embeddings" (2020), eq. 3. Distances are geodesic, those of
    the mesh's file.

    Args:
        cfg: with ``MODEL.ROI_DENSEPOSE_HEAD.CSE``.
    """

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__(cfg)
        cse = cfg.MODEL.ROI_DENSEPOSE_HEAD.CSE
        self.geodist_gauss_sigma = cse.GEODESIC_DIST_GAUSS_SIGMA

    def _mesh_loss(
        self, scores: torch.Tensor, vertices: torch.Tensor, mesh_name: str
    ) -> torch.Tensor:
        geodists = create_mesh(mesh_name, scores.device).geodists[vertices]  # (J, V)
        shares = F.softmax(-geodists / self.geodist_gauss_sigma, dim=1)
        return F.cross_entropy(scores, shares.to(scores.dtype))
