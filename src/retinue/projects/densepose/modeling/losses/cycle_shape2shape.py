"""From a mesh to another and back: a vertex should return to where it came from.

Neverova et al., "Discovering Relationships between Object Categories via Universal Canonical Maps"
(2021), https://arxiv.org/abs/2106.09758.

Shapes
    V, W vertices of the two meshes; D dimensions of the embedding space.
"""

import random
from itertools import combinations

import torch
from torch import nn

from retinue.config import CfgNode
from retinue.projects.densepose.modeling.losses.utils import sample_random_indices
from retinue.projects.densepose.structures.mesh import create_mesh

__all__ = ["ShapeToShapeCycleLoss"]


class ShapeToShapeCycleLoss(nn.Module):
    """The mean way that a vertex is off after a cycle, for one pair of meshes at a time.

    Args:
        cfg: with ``MODEL.ROI_DENSEPOSE_HEAD.CSE``.
    """

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__()
        cse = cfg.MODEL.ROI_DENSEPOSE_HEAD.CSE
        self.shape_names = list(cse.EMBEDDERS)
        self.all_shape_pairs = list(combinations(self.shape_names, 2))
        random.shuffle(self.all_shape_pairs)
        self.cur_pos = 0
        self.norm_p = cse.SHAPE_TO_SHAPE_CYCLE_LOSS.NORM_P
        self.temperature = cse.SHAPE_TO_SHAPE_CYCLE_LOSS.TEMPERATURE
        self.max_num_vertices = cse.SHAPE_TO_SHAPE_CYCLE_LOSS.MAX_NUM_VERTICES

    def _sample_random_pair(self) -> tuple[str, str]:
        """Return the next pair; each comes once before any comes again."""
        if self.cur_pos >= len(self.all_shape_pairs):
            random.shuffle(self.all_shape_pairs)
            self.cur_pos = 0
        self.cur_pos += 1
        return self.all_shape_pairs[self.cur_pos - 1]

    def forward(self, embedder: nn.Module) -> torch.Tensor:
        """Return a scalar; ``embedder`` maps a mesh's name to ``(V, D)``."""
        return self._forward_one_pair(embedder, *self._sample_random_pair())

    def fake_value(self, embedder: nn.Module) -> torch.Tensor:
        """Return 0 that depends on all embedders."""
        names = embedder.mesh_names
        return torch.stack([embedder(name).sum() for name in names]).sum() * 0  # type: ignore[union-attr]

    def _get_embeddings_and_geodists_for_mesh(
        self, embedder: nn.Module, mesh_name: str
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return ``(V, D)`` and ``(V, V)``, of vertices drawn at random if there are too many."""
        embeddings = embedder(mesh_name)
        geodists = create_mesh(mesh_name, embeddings.device).geodists
        drawn = sample_random_indices(len(embeddings), self.max_num_vertices, embeddings.device)
        if drawn is None:
            return embeddings, geodists
        return embeddings[drawn], geodists[drawn[:, None], drawn]

    def _forward_one_pair(
        self, embedder: nn.Module, mesh_name_1: str, mesh_name_2: str
    ) -> torch.Tensor:
        embeddings_1, geodists_1 = self._get_embeddings_and_geodists_for_mesh(embedder, mesh_name_1)
        embeddings_2, geodists_2 = self._get_embeddings_and_geodists_for_mesh(embedder, mesh_name_2)
        similarity = embeddings_1 @ embeddings_2.T / self.temperature  # (V, W)
        there, back = similarity.softmax(dim=1), similarity.T.softmax(dim=1)
        off_1, off_2 = geodists_1 * (there @ back), geodists_2 * (back @ there)
        return torch.norm(off_1, p=self.norm_p) + torch.norm(off_2, p=self.norm_p)
