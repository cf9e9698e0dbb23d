"""How far meshes are from what they should be, and how smooth they are.

Shapes
    N clouds or meshes; P and Q points of a pair of clouds; E edges, all meshes together.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional as F

from retinue.projects.meshrcnn.ops.knn import knn_gather, knn_points
from retinue.projects.meshrcnn.ops.meshes import Meshes
from retinue.utils.errors import InputError

__all__ = ["chamfer_distance", "mesh_edge_loss", "mesh_normal_consistency"]


def chamfer_distance(
    x: torch.Tensor,
    y: torch.Tensor,
    x_lengths: torch.Tensor | None = None,
    y_lengths: torch.Tensor | None = None,
    x_normals: torch.Tensor | None = None,
    y_normals: torch.Tensor | None = None,
    weights: torch.Tensor | None = None,
    batch_reduction: str | None = "mean",
    point_reduction: str | None = "mean",
    norm: int = 2,
    single_directional: bool = False,
    abs_cosine: bool = True,
) -> tuple[Any, Any]:
    """Compare clouds: how far each point is from the other cloud's nearest, and its normal's tilt.

    Equations 1 and 2 of Mesh R-CNN; distances are squared with norm 2.

    Args:
        x: ``(N, P, 3)`` points.
        y: ``(N, Q, 3)``.
        x_lengths: ``(N,)`` how many points of each cloud count; all by default.
        y_lengths: the same for ``y``.
        x_normals: ``(N, P, 3)``; normals are compared if both clouds have them.
        y_normals: ``(N, Q, 3)``.
        weights: ``(N,)``, 0 or more, of each pair; a mean over pairs is divided by their sum.
        batch_reduction: ``"mean"`` or ``"sum"`` over pairs; None for one value a pair.
        point_reduction: ``"mean"`` or ``"sum"`` over points, ``"max"`` for the Hausdorff distance;
            None (then without batch reduction, too) for one value a point.
        norm: 2 or 1.
        single_directional: compare ``x`` with ``y`` only, not ``y`` with ``x``.
        abs_cosine: whether opposite normals are alike.

    Returns:
        The distance, and ``1 - cosine`` of normals, None without. Without point reduction each is
        a pair ``(N, P)``, ``(N, Q)``, or ``(N, P)`` alone if single-directional.

    Raises:
        InputError: If a reduction is none of these, or they don't go together.
    """
    if batch_reduction not in ("mean", "sum", None):
        raise InputError(
            "chamfer_distance: batch_reduction must be 'mean', 'sum' or None;"
            f" got {batch_reduction!r}"
        )
    if point_reduction not in ("mean", "sum", "max", None):
        raise InputError(
            "chamfer_distance: point_reduction must be 'mean', 'sum', 'max' or None;"
            f" got {point_reduction!r}"
        )
    if point_reduction is None and batch_reduction is not None:
        raise InputError("chamfer_distance: without point_reduction, batch_reduction must be None")
    if point_reduction == "max" and x_normals is not None:
        raise InputError("chamfer_distance: normals can't be compared with point_reduction='max'")

    options = (weights, point_reduction, norm, abs_cosine)
    there = _one_way(x, y, x_lengths, y_lengths, x_normals, y_normals, *options)
    if single_directional:
        distance, tilt = there
    else:
        back = _one_way(y, x, y_lengths, x_lengths, y_normals, x_normals, *options)
        distance, tilt = (
            _both_ways(a, b, point_reduction) for a, b in zip(there, back, strict=True)
        )
    if batch_reduction is None:
        return distance, tilt
    total = x.new_ones(())
    if batch_reduction == "mean":
        total = total * len(x) if weights is None else weights.sum()
    scale = 1 / total.where(total > 0, 1.0)
    return distance.sum() * scale, None if tilt is None else tilt.sum() * scale


def _one_way(
    x: torch.Tensor,
    y: torch.Tensor,
    x_lengths: torch.Tensor | None,
    y_lengths: torch.Tensor | None,
    x_normals: torch.Tensor | None,
    y_normals: torch.Tensor | None,
    weights: torch.Tensor | None,
    point_reduction: str | None,
    norm: int,
    abs_cosine: bool,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Compare each point of ``x`` with its nearest of ``y``."""
    if x_lengths is None:
        x_lengths = torch.full((len(x),), x.shape[1], device=x.device)
    nearest = knn_points(x, y, x_lengths, y_lengths, norm=norm)
    values = [nearest.dists[..., 0]]
    if x_normals is not None and y_normals is not None:
        cosine = F.cosine_similarity(
            x_normals, knn_gather(y_normals, nearest.idx)[..., 0, :], dim=2, eps=1e-6
        )
        inside = torch.arange(x.shape[1], device=x.device) < x_lengths[:, None]
        values.append((1 - (cosine.abs() if abs_cosine else cosine)) * inside)
    if weights is not None:
        values = [value * weights[:, None].to(value.dtype) for value in values]
    if point_reduction == "max":
        values = [v.amax(dim=1) if v.shape[1] else v.sum(dim=1) for v in values]
    elif point_reduction is not None:
        counts = x_lengths.clamp(min=1) if point_reduction == "mean" else 1
        values = [value.sum(dim=1) / counts for value in values]
    return values[0], values[1] if len(values) > 1 else None


def _both_ways(there: Any, back: Any, point_reduction: str | None) -> Any:
    if there is None:
        return None
    if point_reduction is None:
        return there, back
    return torch.maximum(there, back) if point_reduction == "max" else there + back


def mesh_edge_loss(meshes: Meshes, target_length: float = 0.0) -> torch.Tensor:
    """Return the mean squared difference of edge lengths to a length; each mesh counts alike.

    Args:
        meshes: N meshes.
        target_length: what edges should have; 0 keeps them short.
    """
    ends = meshes.verts_packed()[meshes.edges_packed()]  # (E, 2, 3)
    # Without a target the length itself, whose gradient is not finite for an edge of length 0, is
    # not needed.
    square = ((ends[:, 0] - ends[:, 1]) ** 2).sum(dim=1)
    if target_length:
        square = ((ends[:, 0] - ends[:, 1]).norm(dim=1) - target_length) ** 2
    counts = meshes.num_edges_per_mesh()[meshes.edges_packed_to_mesh_idx()]
    return (square / counts).sum() / max(len(meshes), 1)


def mesh_normal_consistency(meshes: Meshes) -> torch.Tensor:
    """Return the mean of ``1 - cosine`` between normals of faces that share an edge.

    Each mesh counts alike; where more than two faces share an edge, all their pairs do.

    Args:
        meshes: N meshes.
    """
    verts, edges = meshes.verts_packed(), meshes.edges_packed()
    edge_of, order = meshes.faces_packed_to_edges_packed().flatten().sort(stable=True)  # (3 F,)
    opposite = meshes.faces_packed().flatten()[order]  # the face's third vertex
    start, end = verts[edges[edge_of]].unbind(dim=1)
    normals = torch.linalg.cross(end - start, verts[opposite] - start)  # whatever the orientation
    most = int(edge_of.bincount().max()) if len(edge_of) else 0

    tilts, owners = [normals.sum(dim=1)[:0]], [edge_of[:0]]
    for step in range(1, most):  # faces of one edge lie next to each other now
        same = (edge_of[step:] == edge_of[:-step]).nonzero().flatten()
        # In a plane the two faces lie on either side, and these normals are opposite.
        tilts.append(1 + F.cosine_similarity(normals[same], normals[same + step], dim=1))
        owners.append(meshes.edges_packed_to_mesh_idx()[edge_of[same]])
    tilt, owner = torch.cat(tilts), torch.cat(owners)
    counts = owner.bincount(minlength=len(meshes))[owner]
    return (tilt / counts).sum() / max(len(meshes), 1)
