"""Embeds each vertex of a mesh by parameters of its own."""

import torch
from torch import nn

from retinue.projects.densepose.modeling.cse.utils import normalize_embeddings
from retinue.projects.densepose.utils.files import copy_arrays

__all__ = ["VertexDirectEmbedder"]


class VertexDirectEmbedder(nn.Module):
    """V vertices in a space of D dimensions; random at first.

    Args:
        num_vertices: V.
        embed_dim: D.
    """

    def __init__(self, num_vertices: int, embed_dim: int) -> None:
        super().__init__()
        self.embeddings = nn.Parameter(torch.empty(num_vertices, embed_dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new embeddings from a normal distribution."""
        nn.init.normal_(self.embeddings)

    def forward(self) -> torch.Tensor:
        """Return ``(V, D)``, rows of length 1."""
        return normalize_embeddings(self.embeddings)

    def load(self, fpath: str) -> None:
        """Read ``embeddings`` from a pickled dict of arrays."""
        copy_arrays(fpath, self, ("embeddings",))
