"""How much two meshes are alike: distances, normals, F1.

Shapes
    N pairs of meshes; S points sampled from each.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional as F

from retinue.projects.meshrcnn.ops import (
    Meshes,
    knn_gather,
    knn_points,
    sample_points_from_meshes,
)
from retinue.utils.errors import InputError

__all__ = ["compare_meshes"]


@torch.no_grad()
def compare_meshes(
    pred_meshes: Meshes,
    gt_meshes: Meshes,
    num_samples: int = 10000,
    scale: str | float | tuple[float, float] = "gt-10",
    thresholds: Sequence[float] | None = None,
    reduce: bool = True,
    eps: float = 1e-8,
) -> dict[str, float] | dict[str, torch.Tensor]:
    """Compare meshes by points sampled from their surfaces; section 4 of Mesh R-CNN.

    Args:
        pred_meshes: N meshes.
        gt_meshes: N meshes, or one that all are compared with.
        num_samples: S.
        scale: multiplies both meshes, or (predicted, true) each by its own; ``"gt-10"`` makes the
            longest side of the true mesh's bounding box 10.
        thresholds: distances below which a point counts as met; 0.1 to 0.5 by default.
        reduce: return means over pairs, instead of values on the CPU, ``(N,)``.
        eps: keeps F1 finite where nothing is met.

    Returns:
        ``Chamfer-L2`` (sum of mean squared distances both ways), ``NormalConsistency`` and
        ``AbsNormalConsistency`` (mean cosine with the nearest point's normal, and its absolute
        value), and in percent, for each threshold, ``Precision@0.100000`` (predicted points near
        the truth), ``Recall@...`` (true points near the prediction), ``F1@...``.

    Raises:
        InputError: If the numbers of meshes don't fit, or ``scale`` is none of these.
    """
    if len(gt_meshes) not in (1, len(pred_meshes)):
        raise InputError(
            f"compare_meshes: expected 1 or {len(pred_meshes)} true meshes; got {len(gt_meshes)}"
        )
    pred_meshes, gt_meshes = _scale_meshes(pred_meshes, gt_meshes, scale)
    pred, pred_normals = sample_points_from_meshes(pred_meshes, num_samples, True)
    gt, gt_normals = sample_points_from_meshes(gt_meshes, num_samples, True)
    gt, gt_normals = (x.expand(len(pred), -1, -1) for x in (gt, gt_normals))

    metrics: dict[str, torch.Tensor] = {}
    to_gt2, pred_cosine = _nearest(pred, pred_normals, gt, gt_normals)  # (N, S) each
    to_pred2, gt_cosine = _nearest(gt, gt_normals, pred, pred_normals)
    metrics["Chamfer-L2"] = to_gt2.mean(dim=1) + to_pred2.mean(dim=1)
    cosine = torch.cat((pred_cosine, gt_cosine), dim=1)
    metrics["NormalConsistency"] = cosine.mean(dim=1)
    metrics["AbsNormalConsistency"] = cosine.abs().mean(dim=1)
    for limit in thresholds or (0.1, 0.2, 0.3, 0.4, 0.5):
        precision, recall = (
            100 * (d.sqrt() < limit).float().mean(dim=1) for d in (to_gt2, to_pred2)
        )
        metrics[f"Precision@{limit:f}"] = precision
        metrics[f"Recall@{limit:f}"] = recall
        metrics[f"F1@{limit:f}"] = 2 * precision * recall / (precision + recall + eps)
    if reduce:
        return {name: float(value.mean()) for name, value in metrics.items()}
    return {name: value.cpu() for name, value in metrics.items()}


def _nearest(
    points: torch.Tensor, normals: torch.Tensor, others: torch.Tensor, other_normals: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return squared distance to the nearest other point, and cosine with its normal."""
    nearest = knn_points(points, others)
    near_normals = knn_gather(other_normals, nearest.idx)[:, :, 0]
    return nearest.dists[..., 0], F.cosine_similarity(normals, near_normals, dim=2)


def _scale_meshes(
    pred_meshes: Meshes, gt_meshes: Meshes, scale: str | float | tuple[float, float]
) -> tuple[Meshes, Meshes]:
    if isinstance(scale, tuple):
        return pred_meshes.scale_verts(scale[0]), gt_meshes.scale_verts(scale[1])
    if not isinstance(scale, str):
        return pred_meshes.scale_verts(scale), gt_meshes.scale_verts(scale)
    try:
        longest_side = float(scale.removeprefix("gt-"))
    except ValueError as error:
        raise InputError(
            f"compare_meshes: scale must be a number, two numbers or like 'gt-10'; got {scale!r}"
        ) from error
    low, high = gt_meshes.get_bounding_boxes().unbind(dim=2)
    factors = longest_side / (high - low).amax(dim=1)  # (1,) or (N,)
    return pred_meshes.scale_verts(factors.expand(len(pred_meshes))), gt_meshes.scale_verts(factors)
