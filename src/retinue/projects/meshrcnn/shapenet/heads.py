"""Voxels of a whole picture, and meshes refined in world space.

Shapes
    N pictures; C channels; H, W of a feature map; G side of a grid; V vertices, all meshes
    together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from retinue.config import CfgNode, configurable
from retinue.projects.meshrcnn.ops import Meshes, SubdivideMeshes, vert_align
from retinue.projects.meshrcnn.refinement import convolve, refinement_layers
from retinue.projects.meshrcnn.shapenet.coords import project_verts
from retinue.projects.meshrcnn.voxel_columns import VoxelColumns
from retinue.utils.errors import InputError

__all__ = ["MeshRefinementHead", "MeshRefinementStage", "VoxelHead"]


class VoxelHead(VoxelColumns):
    """Resizes the features, convolves them, doubles the size, predicts a column for each cell.

    Args:
        input_channels: C.
        voxel_size: G, even.
        num_conv: how many 3x3 convolutions.
        conv_dim: their width.
        norm: after each, as :func:`retinue.layers.get_norm` takes it.

    Raises:
        InputError: If ``voxel_size`` is odd.
    """

    @configurable
    def __init__(
        self,
        input_channels: int,
        *,
        voxel_size: int,
        num_conv: int,
        conv_dim: int,
        norm: str = "",
    ) -> None:
        if voxel_size % 2:
            raise InputError(f"MODEL.VOXEL_HEAD.VOXEL_SIZE must be even; got {voxel_size}")
        super().__init__(
            input_channels, voxel_size, conv_dim=conv_dim, num_conv=num_conv, norm=norm
        )
        self.voxel_size = voxel_size

    @classmethod
    def from_config(cls, cfg: CfgNode, input_channels: int) -> dict[str, Any]:
        head = cfg.MODEL.VOXEL_HEAD
        return {
            "input_channels": input_channels,
            "voxel_size": head.VOXEL_SIZE,
            "num_conv": head.NUM_CONV,
            "conv_dim": head.CONV_DIM,
            "norm": head.NORM,
        }

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(N, C, H, W)`` to ``(N, G, G, G)`` logits, axes z away, y down, x right."""
        x = F.interpolate(x, size=self.voxel_size // 2, mode="bilinear", align_corners=False)
        return self.columns(x)


class MeshRefinementStage(nn.Module):
    """Reads features where vertices are projected to, passes them on, moves the vertices.

    The same as in the heads for regions, but for space and names of layers.

    Args:
        img_feat_dim: C, of all feature maps together.
        vert_feat_dim: features that come from the stage before; 0 for the first one.
        hidden_dim: features that leave this one.
        stage_depth: how many graph convolutions.
        gconv_init: how their weights begin.
    """

    def __init__(
        self,
        img_feat_dim: int,
        vert_feat_dim: int,
        hidden_dim: int,
        stage_depth: int,
        gconv_init: str = "normal",
    ) -> None:
        super().__init__()
        self.bottleneck, self.vert_offset, self.gconvs = refinement_layers(
            img_feat_dim, vert_feat_dim, hidden_dim, stage_depth, gconv_init
        )

    def forward(
        self,
        img_feats: Sequence[torch.Tensor],
        meshes: Meshes,
        vert_feats: torch.Tensor | None = None,
        P: torch.Tensor | None = None,
    ) -> tuple[Meshes, torch.Tensor]:
        """Move the vertices of N meshes.

        Args:
            img_feats: ``(N, C_k, H_k, W_k)`` each.
            meshes: in world space.
            vert_feats: ``(V, D)`` from the stage before.
            P: ``(N, 4, 4)`` projections; without, vertices are projected along z.
        """
        padded = meshes.verts_padded()  # (N, max, 3)
        index = meshes.verts_padded_to_packed_idx()
        place = padded if P is None else project_verts(padded, P)
        read = vert_align(img_feats, place * place.new_tensor([1, -1, 1]))  # rows go down
        place = place.flatten(0, 1)[index]  # (V, 3)
        known = [] if vert_feats is None else [vert_feats]
        read = self.bottleneck(read.flatten(0, 1)[index]).relu()
        hidden = torch.cat((read, place, *known), dim=1)
        vert_feats, hidden = convolve(self.gconvs, hidden, place, meshes.edges_packed())
        return meshes.offset_verts(self.vert_offset(hidden).tanh()), vert_feats


class MeshRefinementHead(nn.Module):
    """Refinement stages, one after another.

    Args:
        input_channels: C, of all feature maps together.
        num_stages: how many.
        hidden_dim: features of a vertex.
        stage_depth: graph convolutions of each stage.
        graph_conv_init: how their weights begin.
    """

    @configurable
    def __init__(
        self,
        input_channels: int,
        *,
        num_stages: int,
        hidden_dim: int,
        stage_depth: int,
        graph_conv_init: str = "normal",
    ) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            MeshRefinementStage(
                input_channels, hidden_dim if k else 0, hidden_dim, stage_depth, graph_conv_init
            )
            for k in range(num_stages)
        )

    @classmethod
    def from_config(cls, cfg: CfgNode, input_channels: int) -> dict[str, Any]:
        head = cfg.MODEL.MESH_HEAD
        return {
            "input_channels": input_channels,
            "num_stages": head.NUM_STAGES,
            "hidden_dim": head.GRAPH_CONV_DIM,
            "stage_depth": head.NUM_GRAPH_CONVS,
            "graph_conv_init": head.GRAPH_CONV_INIT,
        }

    def forward(
        self,
        img_feats: Sequence[torch.Tensor],
        meshes: Meshes,
        P: torch.Tensor | None = None,
        subdivide: bool = False,
    ) -> list[Meshes]:
        """Return the N meshes after each stage.

        Args:
            img_feats: ``(N, C_k, H_k, W_k)`` each.
            meshes: to begin with, in world space.
            P: ``(N, 4, 4)`` projections.
            subdivide: split each face into four between stages.
        """
        stages: list[Meshes] = []
        vert_feats = None
        for stage in self.stages:
            if stages and subdivide and vert_feats is not None:
                meshes, vert_feats = SubdivideMeshes()(meshes, vert_feats)
            meshes, vert_feats = stage(img_feats, meshes, vert_feats, P)
            stages.append(meshes)
        return stages
