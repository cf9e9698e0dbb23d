"""Finer meshes: a vertex in the middle of each edge, four faces for each one."""

from __future__ import annotations

from typing import overload

import torch
from torch import nn

from retinue.projects.meshrcnn.ops.meshes import Meshes

__all__ = ["SubdivideMeshes"]


class SubdivideMeshes(nn.Module):
    """Splits each face into four; features of new vertices are means of the edge's two ends.

    The three faces at the corners come first, the one in the middle last, all oriented as the old
    one. Each mesh keeps its old vertices before its new ones.
    """

    @overload
    def forward(self, meshes: Meshes) -> Meshes: ...

    @overload
    def forward(self, meshes: Meshes, feats: torch.Tensor) -> tuple[Meshes, torch.Tensor]: ...

    def forward(
        self, meshes: Meshes, feats: torch.Tensor | None = None
    ) -> Meshes | tuple[Meshes, torch.Tensor]:
        """Return finer meshes and, given features ``(V, C)``, those of their vertices."""
        verts, edges = meshes.verts_packed(), meshes.edges_packed()
        owner = torch.cat((meshes.verts_packed_to_mesh_idx(), meshes.edges_packed_to_mesh_idx()))
        order = owner.argsort(stable=True)  # vertices, then middles, of each mesh together
        place = torch.empty_like(order)
        place[order] = torch.arange(len(order), device=order.device)

        corners = meshes.faces_packed()  # (F, 3)
        middles = meshes.faces_packed_to_edges_packed() + len(verts)  # opposite each corner
        quarters = torch.cat((corners, middles), dim=1)[
            :, [[0, 5, 4], [1, 3, 5], [2, 4, 3], [3, 4, 5]]
        ]
        num_edges = meshes.num_edges_per_mesh()
        finer = Meshes.from_packed(
            _with_middles(verts, edges)[order],
            place[quarters.reshape(-1, 3)],
            (meshes.num_verts_per_mesh() + num_edges).tolist(),
            (4 * meshes.num_faces_per_mesh()).tolist(),
        )
        return finer if feats is None else (finer, _with_middles(feats, edges)[order])


def _with_middles(rows: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
    """Append the mean of each edge's ends to the rows of vertices."""
    return torch.cat((rows, rows[edges].mean(dim=1)))
