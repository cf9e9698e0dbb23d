"""The mesh branch: moves the vertices of a coarse mesh, stage by stage.

A stage reads the region's features at each vertex, lets neighbours exchange what they know, and
moves each vertex by at most 1 along each axis (Mesh R-CNN, section 3.3).

Shapes
    R regions, all images together; C channels; S side of a pooled region; V vertices, all meshes
    together; D features of a vertex.

Units
    Box space: x right, y down, z away, each in [-1, 1]; see ``utils.shape``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from retinue.config import CfgNode, configurable
from retinue.layers import ShapeSpec
from retinue.projects.meshrcnn.ops import (
    Meshes,
    SubdivideMeshes,
    chamfer_distance,
    mesh_edge_loss,
    sample_points_from_meshes,
    vert_align,
)
from retinue.projects.meshrcnn.refinement import convolve, refinement_layers
from retinue.projects.meshrcnn.structures.mesh import MeshInstances, batch_crop_meshes_within_box
from retinue.structures import Instances
from retinue.utils.registry import Registry

__all__ = [
    "ROI_MESH_HEAD_REGISTRY",
    "MeshRCNNGraphConvHead",
    "MeshRCNNGraphConvSubdHead",
    "MeshRefinementStage",
    "build_mesh_head",
    "mesh_rcnn_inference",
    "mesh_rcnn_loss",
]

_HERE = "retinue.projects.meshrcnn.modeling.roi_heads.mesh_head"
ROI_MESH_HEAD_REGISTRY = Registry(
    "ROI_MESH_HEAD",
    {
        "MeshRCNNGraphConvHead": f"{_HERE}:MeshRCNNGraphConvHead",
        "MeshRCNNGraphConvSubdHead": f"{_HERE}:MeshRCNNGraphConvSubdHead",
    },
    key="MODEL.ROI_MESH_HEAD.NAME",
)


def build_mesh_head(cfg: CfgNode, input_shape: ShapeSpec) -> nn.Module:
    """Build the head that ``cfg.MODEL.ROI_MESH_HEAD.NAME`` names."""
    return ROI_MESH_HEAD_REGISTRY.get(cfg.MODEL.ROI_MESH_HEAD.NAME)(cfg, input_shape)


class MeshRefinementStage(nn.Module):
    """Reads features at vertices, passes them along edges, moves the vertices.

    Args:
        img_feat_dim: C.
        vert_feat_dim: D of the features that come from the stage before; 0 for the first one.
        hidden_dim: D of those that leave this one.
        stage_depth: how many graph convolutions.
        gconv_init: how their weights begin, see :class:`~retinue.projects.meshrcnn.ops.GraphConv`.
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
        self.bottleneck, self.verts_offset, self.gconvs = refinement_layers(
            img_feat_dim, vert_feat_dim, hidden_dim, stage_depth, gconv_init
        )

    def forward(
        self, x: torch.Tensor, mesh: Meshes, vert_feats: torch.Tensor | None = None
    ) -> tuple[Meshes, torch.Tensor]:
        """Move the vertices of R meshes.

        Args:
            x: ``(R, C, S, S)`` region features.
            mesh: R meshes in box space.
            vert_feats: ``(V, D)`` from the stage before.

        Returns:
            The meshes, moved, and ``(V, hidden_dim)`` features of their vertices.
        """
        place = mesh.verts_packed().to(x.dtype)  # (V, 3)
        read = vert_align(x, mesh, return_packed=True, padding_mode="border")  # (V, C)
        known = [] if vert_feats is None else [vert_feats]
        hidden = torch.cat((*known, self.bottleneck(read).relu(), place), dim=1)
        vert_feats, hidden = convolve(self.gconvs, hidden, place, mesh.edges_packed())
        return mesh.offset_verts(self.verts_offset(hidden).tanh()), vert_feats


class MeshRCNNGraphConvHead(nn.Module):
    """Refinement stages, one after another, on the same faces.

    Args:
        input_shape: shape of one region's features.
        num_stages: how many.
        num_graph_convs: of each stage.
        graph_conv_dim: D.
        graph_conv_init: see :class:`MeshRefinementStage`.
    """

    @configurable
    def __init__(
        self,
        input_shape: ShapeSpec,
        *,
        num_stages: int,
        num_graph_convs: int,
        graph_conv_dim: int,
        graph_conv_init: str = "normal",
    ) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            MeshRefinementStage(
                input_shape.channels or 1,
                graph_conv_dim if k else 0,
                graph_conv_dim,
                num_graph_convs,
                gconv_init=graph_conv_init,
            )
            for k in range(num_stages)
        )

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        head = cfg.MODEL.ROI_MESH_HEAD
        return {
            "input_shape": input_shape,
            "num_stages": head.NUM_STAGES,
            "num_graph_convs": head.NUM_GRAPH_CONVS,
            "graph_conv_dim": head.GRAPH_CONV_DIM,
            "graph_conv_init": head.GRAPH_CONV_INIT,
        }

    def forward(self, x: torch.Tensor, mesh: Meshes) -> list[Meshes]:
        """Return the R meshes after each stage, given ``(R, C, S, S)`` features and R meshes."""
        meshes: list[Meshes] = []
        vert_feats = None
        for stage in self.stages:
            if meshes:
                mesh, vert_feats = self.between_stages(mesh, vert_feats)
            mesh, vert_feats = stage(x, mesh, vert_feats)
            meshes.append(mesh)
        return meshes

    def between_stages(self, mesh: Meshes, vert_feats: Any) -> tuple[Meshes, Any]:
        """Prepare meshes and features ``(V, D)`` for the next stage; here, leave them."""
        return mesh, vert_feats


class MeshRCNNGraphConvSubdHead(MeshRCNNGraphConvHead):
    """The same, with each face split into four between stages, as Pixel2Mesh does."""

    def between_stages(self, mesh: Meshes, vert_feats: Any) -> tuple[Meshes, Any]:
        """Split faces; new vertices get the mean of their edge's ends."""
        return SubdivideMeshes()(mesh, vert_feats)


def mesh_rcnn_loss(
    pred_meshes: Sequence[Meshes],
    instances: Sequence[Instances],
    loss_weights: Mapping[str, float],
    gt_num_samples: int = 5000,
    pred_num_samples: int = 5000,
    gt_coord_thresh: float | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, Meshes]:
    """Compare the meshes after each stage with the truth in their regions.

    Args:
        pred_meshes: R meshes after each stage.
        instances: per image, in the same order, with ``proposal_boxes``, ``gt_meshes`` in camera
            space, and ``gt_K``.
        loss_weights: of ``"chamfer"``, ``"normals"`` and ``"edge"``.
        gt_num_samples: points on a true mesh.
        pred_num_samples: points on a predicted mesh.
        gt_coord_thresh: if a true point lies farther out than this along an axis, all losses are
            0: it comes from a bad region, and would throw the weights off. 0 or None for no limit.

    Returns:
        The three losses, summed over stages, 0 without regions, and the true meshes.
    """
    parts = [
        batch_crop_meshes_within_box(i.gt_meshes, i.proposal_boxes.tensor, i.gt_K)
        for i in instances
        if len(i)
    ]
    gt_meshes = Meshes(
        [v for part in parts for v in part.verts_list()],
        [f for part in parts for f in part.faces_list()],
    ).to(pred_meshes[0].device)
    points, normals = sample_points_from_meshes(gt_meshes, gt_num_samples, True)

    chamfers, tilts, edges = [], [], []
    for meshes in pred_meshes:
        pred_points, pred_normals = sample_points_from_meshes(meshes, pred_num_samples, True)
        chamfer, tilt = chamfer_distance(
            pred_points,
            points.to(pred_points),
            x_normals=pred_normals,
            y_normals=normals.to(pred_normals),
            weights=(meshes.valid & gt_meshes.valid).to(pred_points),
        )
        chamfers.append(chamfer)
        tilts.append(tilt)
        edges.append(mesh_edge_loss(meshes))
    losses = torch.stack(
        [
            torch.stack(terms).sum() * loss_weights[name]
            for name, terms in (("chamfer", chamfers), ("normals", tilts), ("edge", edges))
        ]
    )
    if gt_coord_thresh and points.numel():
        losses = losses * (points.abs().max() <= gt_coord_thresh)
    return losses[0], losses[1], losses[2], gt_meshes


def mesh_rcnn_inference(pred_meshes: Meshes, pred_instances: Sequence[Instances]) -> None:
    """Give each detection its mesh, in box space: sets ``pred_meshes``, in place.

    Args:
        pred_meshes: R meshes.
        pred_instances: per image, in the same order.
    """
    rows = list(zip(pred_meshes.verts_list(), pred_meshes.faces_list(), strict=True))
    for instances in pred_instances:
        rows, rest = rows[: len(instances)], rows[len(instances) :]
        instances.pred_meshes = MeshInstances(rows)
        rows = rest
