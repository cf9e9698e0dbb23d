"""Batch norms and heads that differ in which examples are normalised together.

Shapes
    N images; R regions; C channels; S side of a region; H, W rows and columns of a level.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from retinue.modeling.meta_arch.retinanet import RetinaNetHead
from retinue.modeling.roi_heads import FastRCNNConvFCHead, MaskRCNNConvUpsampleHead
from retinue.utils import comm

__all__ = [
    "BatchNormBatchStat",
    "RetinaNetHead_SharedTrainingBN",
    "ShuffledBoxHead",
    "ShuffledMaskHead",
    "batch_shuffle",
    "batch_unshuffle",
]


class BatchNormBatchStat(nn.BatchNorm2d):
    """Batch norm with the batch's statistics in inference, as in training."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Normalise ``(R, C, H, W)``; nothing to normalise stays as it is."""
        if self.training or not len(input):
            return super().forward(input)
        return F.batch_norm(input, None, None, self.weight, self.bias, True, 1.0, self.eps)


def _gather(x: torch.Tensor) -> tuple[torch.Tensor, list[int]]:
    """Collect ``(R_i, ...)`` of all devices: ``(R, ...)`` and the counts R_i."""
    counts: list[int] = comm.all_gather(len(x))
    if len(counts) == 1:
        return x, counts
    from torch.distributed.nn.functional import all_gather  # lets gradients through

    padded = torch.cat((x, x.new_zeros(max(counts) - len(x), *x.shape[1:])))
    return torch.cat([p[:n] for p, n in zip(all_gather(padded), counts, strict=True)]), counts


def batch_shuffle(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Deal the regions of all devices anew, in random order.

    Returns:
        This device's share ``(R', ...)``, and where in the shares of all devices the ``(R_i,)``
        regions went that came from here.
    """
    everything, counts = _gather(x)
    order = torch.randperm(len(everything), device=x.device)
    if len(counts) > 1:
        torch.distributed.broadcast(order, src=0)
    rank, share = comm.get_rank(), -(-len(everything) // len(counts))
    start = sum(counts[:rank])
    went_to = order.argsort()[start : start + counts[rank]]
    return everything[order[rank * share : (rank + 1) * share]], went_to


def batch_unshuffle(x: torch.Tensor, went_to: torch.Tensor) -> torch.Tensor:
    """Bring back what :func:`batch_shuffle` dealt."""
    return _gather(x)[0][went_to]


class ShuffledBoxHead(FastRCNNConvFCHead):
    """A box head that normalises regions of different images together in training."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(R, C, S, S)`` region features to ``(R, D)`` vectors."""
        if not self.training:
            return super().forward(x)
        x, went_to = batch_shuffle(x)
        return batch_unshuffle(super().forward(x), went_to)


class ShuffledMaskHead(MaskRCNNConvUpsampleHead):
    """A mask head that normalises regions of different images together in training."""

    def layers(self, x: Any) -> torch.Tensor:
        """Map ``(R, C, S, S)`` region features to ``(R, K, 2 S, 2 S)`` logits."""
        if not self.training:
            return super().layers(x)
        x, went_to = batch_shuffle(x)
        return batch_unshuffle(super().layers(x), went_to)


def _apply_to_levels(
    levels: Sequence[torch.Tensor], modules: Iterable[nn.Module]
) -> list[torch.Tensor]:
    """Run modules on each ``(N, C, H, W)`` level; batch norms see all levels as one."""
    levels = list(levels)
    for module in modules:
        if not isinstance(module, nn.BatchNorm2d | nn.SyncBatchNorm):
            levels = [module(x) for x in levels]
            continue
        flat = [x.flatten(start_dim=2) for x in levels]  # (N, C, H W)
        together = module(torch.cat(flat, dim=2)[..., None])[..., 0]
        parts = together.split([x.shape[2] for x in flat], dim=2)
        levels = [p.reshape_as(x) for p, x in zip(parts, levels, strict=True)]
    return levels


class RetinaNetHead_SharedTrainingBN(RetinaNetHead):
    """RetinaNet's head with all levels of a batch normalised together."""

    def forward(
        self, features: Sequence[torch.Tensor]
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Map a feature map a level to class logits and box deltas a level."""
        logits = _apply_to_levels(features, [*self.cls_subnet, self.cls_score])
        return logits, _apply_to_levels(features, [*self.bbox_subnet, self.bbox_pred])
