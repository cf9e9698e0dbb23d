"""Distances in the embedding space.

Shapes
    V vertices; D dimensions of the space.
"""

import torch
from torch.nn import functional as F

__all__ = [
    "get_closest_vertices_mask_from_ES",
    "normalize_embeddings",
    "squared_euclidean_distance_matrix",
]

MAX_PIXELS_AT_ONCE = 10_000  # keeps the matrix of distances to all vertices within 1 GB


def squared_euclidean_distance_matrix(pts1: torch.Tensor, pts2: torch.Tensor) -> torch.Tensor:
    """Return ``||a - b||^2`` for each of ``(M, D)`` and ``(N, D)`` points: ``(M, N)``."""
    squares1, squares2 = (p.square().sum(dim=1) for p in (pts1, pts2))
    return torch.addmm(squares1[:, None] + squares2, pts1, pts2.T, alpha=-2)


def normalize_embeddings(embeddings: torch.Tensor, epsilon: float = 1e-6) -> torch.Tensor:
    """Scale rows of ``(N, D)`` to length 1; those shorter than ``epsilon`` stay shorter than 1."""
    return embeddings / embeddings.norm(dim=1, keepdim=True).clamp(min=epsilon)


def get_closest_vertices_mask_from_ES(
    E: torch.Tensor,
    S: torch.Tensor,
    h: int,
    w: int,
    mesh_vertex_embeddings: torch.Tensor,
    device: torch.device,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Find the vertex that each pixel of a box shows.

    Args:
        E: ``(1, D, S, S)``, embedding of the box's cells.
        S: ``(1, K, S, S)`` logits of the segmentation; channel 0 is background.
        h: height of the box, in pixels.
        w: width of the box, in pixels.
        mesh_vertex_embeddings: ``(V, D)``.
        device: where the result is wanted.

    Returns:
        ``(h, w)`` int64, index of the nearest vertex, 0 in the background; and ``(h, w)`` bool,
        True on the body.
    """
    embedding, segm = (
        F.interpolate(x, size=(h, w), mode="bilinear", align_corners=False)[0].to(device)
        for x in (E, S)
    )
    mask = segm.argmax(dim=0) > 0
    vertices = torch.zeros(h, w, dtype=torch.long, device=device)
    vertices[mask] = nearest_vertices(embedding[:, mask].T, mesh_vertex_embeddings)
    return vertices, mask


def nearest_vertices(points: torch.Tensor, vertices: torch.Tensor) -> torch.Tensor:
    """Return the index of the vertex ``(V, D)`` nearest to each point ``(M, D)``: ``(M,)``."""
    parts = points.split(MAX_PIXELS_AT_ONCE)
    return torch.cat([squared_euclidean_distance_matrix(p, vertices).argmin(dim=1) for p in parts])
