"""Nearest neighbours among points.

Shapes
    N pairs of clouds; P points of the first and Q of the second; D coordinates; K neighbours.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from retinue.utils.errors import InputError, expect_shape

__all__ = ["KNN", "knn_gather", "knn_points"]

MAX_DISTANCES = 2**24  # that are held at a time: 64 MiB of float32


class KNN(NamedTuple):
    """What ``knn_points`` finds.

    Attributes:
        dists: ``(N, P, K)``, nearest first: squared Euclidean distances, or sums of absolute
            differences with norm 1; 0 where there is no such point or neighbour.
        idx: ``(N, P, K)`` int64 indices into the second cloud.
        knn: ``(N, P, K, D)`` the neighbours themselves, if asked for.
    """

    dists: torch.Tensor
    idx: torch.Tensor
    knn: torch.Tensor | None


def knn_points(
    p1: torch.Tensor,
    p2: torch.Tensor,
    lengths1: torch.Tensor | None = None,
    lengths2: torch.Tensor | None = None,
    norm: int = 2,
    K: int = 1,
    return_nn: bool = False,
) -> KNN:
    """Find the K points of ``p2`` nearest to each point of ``p1``; gradients flow to both.

    Memory stays bounded: distances are computed in blocks and forgotten.

    Args:
        p1: ``(N, P, D)``.
        p2: ``(N, Q, D)``.
        lengths1: ``(N,)`` how many points of each cloud of ``p1`` count; all by default.
        lengths2: the same for ``p2``.
        norm: 2 or 1.
        K: how many; clouds with fewer points give what they have.
        return_nn: return the neighbours' coordinates, too.

    Raises:
        InputError: If the batches don't fit, or ``norm`` is another.
    """
    expect_shape("knn_points: p1", p1, ("N", "P", "D"))
    expect_shape("knn_points: p2", p2, (len(p1), "Q", p1.shape[2]))
    if norm not in (1, 2):
        raise InputError(f"knn_points: norm must be 1 or 2; got {norm}")
    num, num_first, num_second = len(p1), p1.shape[1], p2.shape[1]
    found = min(K, num_second)
    idx = p1.new_zeros((num, num_first, K), dtype=torch.int64)
    exists = torch.arange(K, device=p1.device) < _counts(lengths2, p2)[:, None]  # (N, K)
    inside = torch.arange(num_first, device=p1.device) < _counts(lengths1, p1)[:, None]  # (N, P)
    if found and num and num_first:
        idx[..., :found] = _nearest(p1.detach(), p2.detach(), lengths2, float(norm), found)
    if not num_second:
        zeros = p1.new_zeros(num, num_first, K)
        return KNN(
            zeros, idx, zeros[..., None].expand(*zeros.shape, p1.shape[2]) if return_nn else None
        )
    counted = inside[:, :, None] & exists[:, None]
    idx = idx * counted
    neighbours = knn_gather(p2, idx)  # (N, P, K, D)
    away = p1[:, :, None] - neighbours
    dists = (away.abs() if norm == 1 else away**2).sum(dim=3) * counted
    return KNN(dists, idx, neighbours if return_nn else None)


@torch.no_grad()
def _nearest(
    p1: torch.Tensor, p2: torch.Tensor, lengths2: torch.Tensor | None, norm: float, k: int
) -> torch.Tensor:
    """Return ``(N, P, k)`` indices, block by block of points."""
    beyond = torch.arange(p2.shape[1], device=p2.device) >= _counts(lengths2, p2)[:, None]  # (N, Q)
    rows = []
    for first, second, hidden in zip(p1, p2, beyond, strict=True):
        blocks = []
        for block in first.split(max(1, MAX_DISTANCES // len(second))):
            # By products of matrices it would be faster, and near neighbours be mixed up.
            away = torch.cdist(block, second, p=norm, compute_mode="donot_use_mm_for_euclid_dist")
            if lengths2 is not None:
                away = away.masked_fill(hidden, torch.inf)
            nearest = away.min(dim=1, keepdim=True) if k == 1 else away.topk(k, largest=False)
            blocks.append(nearest.indices)
        rows.append(torch.cat(blocks))
    return torch.stack(rows)


def _counts(lengths: torch.Tensor | None, points: torch.Tensor) -> torch.Tensor:
    if lengths is not None:
        expect_shape("knn_points: lengths", lengths, (len(points),))
        return lengths
    return torch.full((len(points),), points.shape[1], device=points.device)


def knn_gather(x: torch.Tensor, idx: torch.Tensor) -> torch.Tensor:
    """Take ``(N, P, K, C)`` rows of ``(N, Q, C)`` values by ``(N, P, K)`` indices."""
    batch = torch.arange(len(x), device=x.device)[:, None, None]
    return x[batch, idx]
