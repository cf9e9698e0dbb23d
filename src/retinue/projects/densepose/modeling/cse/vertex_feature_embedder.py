"""Embeds vertices of a mesh by a linear map of their features."""

import torch
from torch import nn

from retinue.projects.densepose.modeling.cse.utils import normalize_embeddings
from retinue.projects.densepose.utils.files import copy_arrays

__all__ = ["VertexFeatureEmbedder"]


class VertexFeatureEmbedder(nn.Module):
    """V vertices with F features each, in a space of D dimensions; random at first.

    The features of the published models are eigenfunctions of the mesh's Laplace-Beltrami
    operator, which vary smoothly over the surface.

    Args:
        num_vertices: V.
        feature_dim: F.
        embed_dim: D.
        train_features: learn the features, too.
    """

    features: torch.Tensor

    def __init__(
        self, num_vertices: int, feature_dim: int, embed_dim: int, train_features: bool = False
    ) -> None:
        super().__init__()
        features = torch.empty(num_vertices, feature_dim)
        if train_features:
            self.features = nn.Parameter(features)
        else:
            self.register_buffer("features", features)
        self.embeddings = nn.Parameter(torch.empty(feature_dim, embed_dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new features and a new map from normal distributions."""
        nn.init.normal_(self.features)
        nn.init.normal_(self.embeddings, std=self.embeddings.shape[0] ** -0.5)

    def forward(self) -> torch.Tensor:
        """Return ``(V, D)``, rows of length 1."""
        return normalize_embeddings(self.features @ self.embeddings)

    def load(self, fpath: str) -> None:
        """Read ``features`` and ``embeddings``, those that are there, from a pickled dict."""
        copy_arrays(fpath, self, ("features", "embeddings"))
