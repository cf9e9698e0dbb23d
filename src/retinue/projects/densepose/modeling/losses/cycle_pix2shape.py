"""From pixels to a mesh and back: a pixel should return to where it came from.

Neverova et al., "Discovering Relationships between Object Categories via Universal Canonical Maps"
(2021), https://arxiv.org/abs/2106.09758.

Shapes
    R regions; S side of predictions; M pixels drawn; V vertices; D dimensions of the space.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from retinue.config import CfgNode
from retinue.projects.densepose.data.meshes.catalog import MeshCatalog
from retinue.projects.densepose.modeling.cse.utils import (
    normalize_embeddings,
    squared_euclidean_distance_matrix,
)
from retinue.projects.densepose.modeling.losses.embed_utils import PackedCseAnnotations
from retinue.projects.densepose.modeling.losses.mask import extract_data_for_mask_loss_from_matches
from retinue.projects.densepose.modeling.losses.utils import sample_random_indices
from retinue.structures import Instances

__all__ = ["PixToShapeCycleLoss"]


class PixToShapeCycleLoss(nn.Module):
    """The mean way, in squared cells, that a pixel of an object is off after a cycle.

    Args:
        cfg: with ``MODEL.ROI_DENSEPOSE_HEAD``.
    """

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__()
        head = cfg.MODEL.ROI_DENSEPOSE_HEAD
        cycle = head.CSE.PIX_TO_SHAPE_CYCLE_LOSS
        self.shape_names = list(head.CSE.EMBEDDERS)
        self.embed_size = head.CSE.EMBED_SIZE
        self.norm_p = cycle.NORM_P
        self.use_all_meshes_not_gt_only = cycle.USE_ALL_MESHES_NOT_GT_ONLY
        self.num_pixels_to_sample = cycle.NUM_PIXELS_TO_SAMPLE
        self.pix_sigma = cycle.PIXEL_SIGMA
        self.temperature_pix_to_vertex = cycle.TEMPERATURE_PIXEL_TO_VERTEX
        self.temperature_vertex_to_pix = cycle.TEMPERATURE_VERTEX_TO_PIXEL

    def forward(
        self,
        proposals_with_gt: Sequence[Instances],
        densepose_predictor_outputs: Any,
        packed_annotations: PackedCseAnnotations,
        embedder: nn.Module,
    ) -> torch.Tensor:
        """Return a scalar.

        Args:
            proposals_with_gt: regions of each image, R in all, with ``gt_masks``.
            densepose_predictor_outputs: :class:`.DensePoseEmbeddingPredictorOutput` of R regions.
            packed_annotations: says which meshes there are.
            embedder: maps a mesh's name to ``(V, D)``.
        """
        embeddings = densepose_predictor_outputs.embedding  # (R, D, S, S)
        with torch.no_grad():
            masks = extract_data_for_mask_loss_from_matches(
                proposals_with_gt, densepose_predictor_outputs.coarse_segm
            ).masks_gt
        mesh_names = self.shape_names
        if not self.use_all_meshes_not_gt_only:
            mesh_ids = packed_annotations.vertex_mesh_ids_gt.unique().tolist()
            mesh_names = [MeshCatalog.get_mesh_name(number) for number in mesh_ids]
        if masks is None or not mesh_names:
            return embeddings.sum() * 0
        vertices = [embedder(name) for name in mesh_names]
        losses = [
            self._cycle(embedding, self._sample(mask), of_mesh)
            for embedding, mask in zip(embeddings, masks, strict=True)
            for of_mesh in vertices
        ]
        return torch.stack(losses).mean()

    def _sample(self, mask: torch.Tensor) -> torch.Tensor:
        """Draw pixels of a mask ``(S, S)``: ``(M, 2)`` int64, row and column."""
        pixels = mask.nonzero()
        drawn = sample_random_indices(len(pixels), self.num_pixels_to_sample, mask.device)
        return pixels if drawn is None else pixels[drawn]

    def _cycle(
        self, embedding: torch.Tensor, pixels: torch.Tensor, vertices: torch.Tensor
    ) -> torch.Tensor:
        points = normalize_embeddings(embedding[:, pixels[:, 0], pixels[:, 1]].T)  # (M, D)
        similarity = points @ vertices.T  # (M, V)
        there = (similarity / self.temperature_pix_to_vertex).softmax(dim=1)
        back = (similarity.T / self.temperature_vertex_to_pix).softmax(dim=1)
        grid = pixels.to(embedding.dtype)
        distances = squared_euclidean_distance_matrix(grid, grid)
        return torch.norm(distances * (there @ back), p=self.norm_p)

    def fake_value(self, densepose_predictor_outputs: Any, embedder: nn.Module) -> torch.Tensor:
        """Return 0 that depends on the predictions and all embedders."""
        sums = [embedder(name).sum() for name in embedder.mesh_names]  # type: ignore[union-attr]
        return (torch.stack(sums).sum() + densepose_predictor_outputs.embedding.sum()) * 0
