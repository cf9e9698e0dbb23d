"""What the stages that refine a mesh share, whether they read features of a region or of an image.

Shapes
    V vertices of all meshes together; E edges; C channels of the features read at a vertex; D
    features that a stage passes on.
"""

from __future__ import annotations

import torch
from torch import nn

from retinue.projects.meshrcnn.ops import GraphConv

__all__ = ["convolve", "refinement_layers"]


def refinement_layers(
    img_feat_dim: int, vert_feat_dim: int, hidden_dim: int, stage_depth: int, gconv_init: str
) -> tuple[nn.Linear, nn.Linear, nn.ModuleList]:
    """Make the layers of a stage.

    Args:
        img_feat_dim: C.
        vert_feat_dim: features that come from the stage before; 0 for the first one.
        hidden_dim: D.
        stage_depth: how many graph convolutions.
        gconv_init: how their weights begin, see :class:`~retinue.projects.meshrcnn.ops.GraphConv`.

    Returns:
        A map of ``(V, C)`` features to ``(V, D)``; one of ``(V, D + 3)`` features and places to
        ``(V, 3)`` offsets, which are 0 at first; and the convolutions.
    """
    bottleneck, offset = nn.Linear(img_feat_dim, hidden_dim), nn.Linear(hidden_dim + 3, 3)
    dims = [hidden_dim + vert_feat_dim + 3] + [hidden_dim + 3] * (stage_depth - 1)
    convolutions = nn.ModuleList(GraphConv(dim, hidden_dim, init=gconv_init) for dim in dims)
    nn.init.normal_(bottleneck.weight, std=0.01)
    for constant in (bottleneck.bias, offset.weight, offset.bias):
        nn.init.zeros_(constant)
    return bottleneck, offset, convolutions


def convolve(
    convolutions: nn.ModuleList, hidden: torch.Tensor, place: torch.Tensor, edges: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Pass features along the edges, once a convolution; each sees where the vertices are.

    Args:
        convolutions: at least one.
        hidden: ``(V, ...)`` features for the first one, ``place`` among them.
        place: ``(V, 3)``.
        edges: ``(E, 2)`` vertices.

    Returns:
        ``(V, D)`` features, and ``(V, D + 3)`` with ``place`` behind them.
    """
    features = hidden
    for convolution in convolutions:
        features = convolution(hidden, edges).relu()
        hidden = torch.cat((features, place), dim=1)
    return features, hidden
